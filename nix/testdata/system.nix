# What the tests ask of a system: its units and what they stand on.
{ modules }:

let
  lib = import ./nixpkgs/lib.nix;
  inherit (lib.nixosSystem { inherit modules; }) config;
in
{
  inherit (config.systemd)
    services
    sockets
    mounts
    ;
  inherit (config.systemd.tmpfiles) rules;
  inherit (config.users) users groups;
  path = map (package: "${package}") config.environment.systemPackages;
  built = config.system.build.toplevel.drvPath;
}
