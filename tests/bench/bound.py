"""Binds a UDP socket with a large receive buffer and becomes a program that has it as its input.

    bound.py ADDRESS:PORT PROGRAM ARGUMENT...

So a program of a few lines meets a burst with as much room as a daemon has.
"""

import os
import socket
import sys

SO_RCVBUFFORCE = 33
# As much as floodmesh asks for (overlay/src/link/udp/bind.rs).
SOCKET_BUFFER = 7 << 20


def main():
    address, *command = sys.argv[1:]
    host, port = address.split(":")
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)
    end.bind((host, int(port)))
    os.dup2(end.fileno(), 0)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
