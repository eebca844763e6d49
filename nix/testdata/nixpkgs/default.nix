# As much of nixpkgs as the files in nix use. What is to be run is the host's
# own, in /usr; the one thing that is really built is a Go module, as build.sh
# says.
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

  # A derivation of which the host's bash builds what script says.
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

    # In nixpkgs, too, it is two derivations: the modules, whose hash is known
    # and whose build may use the network, and the program, whose build may not.
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
