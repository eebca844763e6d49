# What both images have: a user that does not own the state directory, and a unit whose
# program runs as root, starts a process of that user, and reports to ingest. unit is also
# the name of the options, user is a default, what is the process, and stop is the name of
# the option for its last seconds.
{ unit, user, what, stop }:

{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.${unit};
  lifecycle = config.services.pika-cloud-lifecycle;
  inherit (lib) mkOption types;
in
{
  imports = [ ../module.nix ];

  options.services.${unit} = {
    user = mkOption {
      type = types.strMatching "[a-z][a-z0-9-]*";
      default = user;
      example = "runner";
      description = "User and group of ${what}. The home directory is in /var/lib.";
    };

    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.curl pkgs.git ]";
      description = "Packages on the PATH of the unit.";
    };

    ${stop} = mkOption {
      type = types.ints.between 1 3600; # ci-job.py accepts at most an hour
      default = 10;
      example = 60;
      description = "Seconds that ${what} may take to stop after SIGTERM. Then it is killed.";
    };
  };

  config = lib.mkMerge [
    { services.pika-cloud-lifecycle.enable = lib.mkDefault true; }
    # The unit needs the state directory, which exists only if the module is enabled.
    (lib.mkIf lifecycle.enable {
      assertions = [
        {
          assertion = cfg.user != lifecycle.owner;
          message = "services.${unit}.user is \"${cfg.user}\", which owns ${lifecycle.stateDir}, so ${what} could forge the result; choose another user";
        }
      ];

      users.users.${cfg.user} = {
        isSystemUser = true;
        group = cfg.user;
        home = "/var/lib/${cfg.user}";
        createHome = true;
      };
      users.groups.${cfg.user} = { };

      systemd.services.${unit} = {
        documentation = [ "man:pika-cloud-lifecycle(1)" ];
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        path = [
          lifecycle.package
          pkgs.bash
        ] ++ cfg.path;
        environment = {
          PIKA_LIFECYCLE_DIR = lifecycle.stateDir;
          INGEST_FLAGS = toString lifecycle.ingestFlags;
        };
        serviceConfig = lifecycle.streamConfig // {
          # systemd sends SIGTERM only to the program. If the other process received it
          # too, it could end first, and the program would report that it did so by itself.
          KillMode = "mixed";
          # 30 s of the rest are for ingest, which retries the result if the disk is full.
          TimeoutStopSec = cfg.${stop} + 45;
          OOMPolicy = "continue"; # the program and the agent handle children that are killed
        };
      };
    })
  ];
}
