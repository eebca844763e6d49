# The parts of NixOS that the modules in nix use. system.build.toplevel is a file that
# lists the parts of a system. Evaluating it fails if an assertion fails.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  texts = option (types.listOf types.str) [ ];
  names = option (types.listOf (types.strMatching "[a-zA-Z0-9@%:_.\\-]+[.](service|socket|device|mount|automount|swap|target|path|timer|scope|slice)")) [ ];
  settings = option (types.attrsOf types.setting) { };

  # The options of all kinds of units.
  unit = {
    description = option (types.strMatching "[^\n\r]*") "";
    documentation = texts;
    wantedBy = names;
    requiredBy = names;
    requires = names;
    wants = names;
    after = names;
    before = names;
    bindsTo = names;
    partOf = names;
    unitConfig = settings;
  };
  units = more: option (types.attrsOf (types.submodule { options = unit // more; })) { };
in
{
  options = {
    assertions = option (types.listOf types.anything) [ ];
    boot.isContainer = option types.bool false;
    environment.systemPackages = option (types.listOf types.package) [ ];
    system.stateVersion = mkOption { type = types.str; };
    system.build.toplevel = mkOption { type = types.package; };
    systemd.tmpfiles.rules = texts;
    systemd.sockets = units {
      listenStreams = texts;
      socketConfig = settings;
    };
    systemd.services = units {
      environment = option (types.attrsOf (types.nullOr types.str)) { };
      path = option (types.listOf types.package) [ ];
      restartIfChanged = option types.bool true;
      stopIfChanged = option types.bool true;
      serviceConfig = settings;
    };
    systemd.mounts = option (types.listOf (types.submodule { options = unit // {
      what = mkOption { type = types.str; };
      where = mkOption { type = types.str; };
      type = option types.str "";
      options = option types.str "";
      mountConfig = settings;
    }; })) [ ];
    users.users = option (types.attrsOf (types.submodule { options = {
      isSystemUser = option types.bool false;
      isNormalUser = option types.bool false;
      description = option types.str "";
      group = option types.str "";
      home = option types.str "/var/empty";
      createHome = option types.bool false;
      uid = option (types.nullOr types.int) null;
    }; })) { };
    users.groups = option (types.attrsOf (types.submodule { options = {
      gid = option (types.nullOr types.int) null;
    }; })) { };
  };

  config = {
    assertions = builtins.concatLists (
      lib.mapAttrsToList (name: user: [
        {
          assertion = (user.isSystemUser || user.uid != null && user.uid < 1000) != user.isNormalUser;
          message = "Exactly one of users.users.${name}.isSystemUser and users.users.${name}.isNormalUser must be set.";
        }
        {
          assertion = user.group != "";
          message = "users.users.${name}.group is unset.";
        }
      ]) config.users.users
    );
    users.users.root = {
      uid = 0;
      group = "root";
      home = "/root";
    };
    users.groups.root.gid = 0;
    system.build.toplevel =
      let
        broken = map (a: a.message) (builtins.filter (a: !a.assertion) config.assertions);
      in
      if broken != [ ] then
        throw "Failed assertions:\n- ${builtins.concatStringsSep "\n- " broken}"
      else
        derivation {
          name = "system";
          inherit (pkgs) system;
          builder = "/bin/bash";
          args = [ "-c" "echo $units >$out" ];
          units = builtins.toJSON { inherit (config.systemd) services sockets mounts; inherit (config.systemd.tmpfiles) rules; packages = map toString config.environment.systemPackages; };
        };
  };
}
