{
  description = "floodmesh: a mesh VPN daemon that floods";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = build: nixpkgs.lib.genAttrs systems (system: build nixpkgs.legacyPackages.${system});
      # The version stands once, in the workspace manifest.
      manifest = builtins.fromTOML (builtins.readFile ./Cargo.toml);
      package = pkgs: pkgs.rustPlatform.buildRustPackage {
        pname = "floodmesh";
        version = manifest.workspace.package.version;
        src = self;
        cargoLock.lockFile = ./Cargo.lock;
        cargoBuildFlags = [ "-p" "floodmesh" ];
        # The builder has no root and no device: units, vectors and the simulator run there;
        # namespaces and command line run in `.ci/run`.
        cargoTestFlags = [ "-p" "floodmesh-wire" "-p" "floodmesh" "--lib" ];
        meta = {
          description = "A mesh VPN daemon that floods: every packet takes every path, the first copy wins";
          license = with pkgs.lib.licenses; [ mit asl20 ];
          mainProgram = "floodmesh";
          platforms = pkgs.lib.platforms.linux;
        };
      };
      # Runs one cargo command over the package's sources and dependencies.
      checkWith = pkgs: name: command: (package pkgs).overrideAttrs (old: {
        pname = "floodmesh-${name}";
        nativeBuildInputs = (old.nativeBuildInputs or [ ]) ++ [ pkgs.clippy pkgs.rustfmt ];
        buildPhase = command;
        doCheck = false;
        installPhase = "touch $out";
      });
    in
    {
      packages = each (pkgs: rec {
        floodmesh = package pkgs;
        default = floodmesh;
      });

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [
            # the toolchain
            rustc
            cargo
            clippy
            rustfmt
            rust-analyzer
            cargo-deny
            cargo-fuzz
            # what namespace tests and measurements use
            iproute2
            iperf3
            nftables
            tcpdump
            ethtool
            python3
          ];
        };
      });

      checks = each (pkgs: {
        package = package pkgs;
        fmt = checkWith pkgs "fmt" "cargo fmt --all --check";
        clippy = checkWith pkgs "clippy" "cargo clippy --workspace --all-targets -- -D warnings";
        pure = checkWith pkgs "pure" "cargo check -p floodmesh --no-default-features";
      });

      formatter = each (pkgs: pkgs.nixpkgs-fmt);
    };
}
