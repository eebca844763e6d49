# The parts of nixpkgs that the files in nix use. Programs are those of this
# machine, in /usr. Only Go modules are really built, by build.sh.
{
  system ? builtins.currentSystem,
}:

let
  lib = import ./lib.nix;
  host = builtins.fromJSON (builtins.readFile ./host.json); # written by the tests

  installed = name: {
    type = "derivation";
    inherit name;
    outPath = "/usr";
    meta.mainProgram = name;
  };

  # A derivation that the bash of this machine builds by running script.
  run = name: attrs: script:
    derivation (
      attrs
      // {
        inherit name system;
        builder = "/bin/bash";
        args = [ "-euo" "pipefail" script ];
        go = "${host.GOROOT}/bin";
        modules = host.GOMODCACHE;
        cache = host.GOCACHE;
      }
    );

  pkgs = {
    inherit lib system;
    stdenv.hostPlatform.system = system;

    callPackage = f: given:
      let function = if builtins.isFunction f then f else import f; in
      function (builtins.intersectAttrs (builtins.functionArgs function) pkgs // given);

    # Two derivations, as in nixpkgs: the modules, which have a fixed hash and may use
    # the network, and the program, which may not.
    buildGoModule = args:
      let
        name = "${args.pname}-${args.version}";
        goModules = run "${name}-go-modules" {
          inherit (args) src;
          postPatch = args.postPatch or "";
          outputHashMode = "recursive";
          outputHash = args.vendorHash;
          outputHashAlgo = null;
        } ./vendor.sh;
        program = run name (
          {
            inherit (args) src ldflags;
            inherit goModules;
            postPatch = args.postPatch or "";
            postInstall = args.postInstall or "";
          }
          // args.env or { }
        ) ./build.sh;
      in
      program // { inherit (args) meta version; inherit goModules args; };

    mkShell = args: run "shell" { inherit (args) packages; } "/dev/null";
  }
  // lib.genAttrs [
    "bash"
    "coreutils"
    "findutils"
    "gnugrep"
    "gnused"
    "go"
    "jq"
    "mandoc"
    "nodejs"
    "python3"
    "shellcheck"
    "strace"
    "systemd"
    "util-linux"
  ] installed;
in
pkgs
