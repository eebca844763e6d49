# The parts of a system that the tests check: units, users, groups, tmpfiles rules and
# packages.
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
