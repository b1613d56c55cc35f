# Evaluates flake.nix against a stand-in for nixpkgs, where the real one cannot be fetched: finds
# syntax errors, misspelt attributes and missing files, and builds nothing.
#
#   nix-instantiate --eval --strict tests/flake/evaluate.nix
let
  flake = import ../../flake.nix;

  # Every tool is its own name; every builder gives back what it was asked to build.
  derivation = arguments: arguments // {
    type = "derivation";
    overrideAttrs = change: derivation (arguments // change arguments);
  };
  tools = [
    "rustc" "cargo" "clippy" "rustfmt" "rust-analyzer" "cargo-deny" "cargo-fuzz" "iproute2" "iperf3"
    "nftables" "tcpdump" "ethtool" "python3" "nixpkgs-fmt"
  ];
  lib = {
    genAttrs = names: make: builtins.listToAttrs
      (map (name: { inherit name; value = make name; }) names);
    licenses = { mit = "MIT"; asl20 = "Apache-2.0"; };
    platforms.linux = [ "x86_64-linux" "aarch64-linux" ];
  };
  pkgs = lib.genAttrs tools (name: name) // {
    inherit lib;
    rustPlatform.buildRustPackage = derivation;
    mkShell = derivation;
  };
  outputs = flake.outputs {
    self = ../..;
    nixpkgs = { inherit lib; legacyPackages = lib.genAttrs lib.platforms.linux (_: pkgs); };
  };
  package = outputs.packages.x86_64-linux.default;
in
assert builtins.pathExists package.cargoLock.lockFile;
assert builtins.all builtins.isString outputs.devShells.aarch64-linux.default.packages;
{
  inherit (flake) description;
  inherit (package) pname version;
  checks = builtins.mapAttrs (_: check: check.buildPhase or "cargo build, cargo test")
    outputs.checks.x86_64-linux;
  shell = outputs.devShells.x86_64-linux.default.packages;
  formatter = outputs.formatter.x86_64-linux;
}
