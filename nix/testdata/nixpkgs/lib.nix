# The parts of nixpkgs' lib that the files in nix use: the module system and a few
# functions. Using any other part is an error.
let
  inherit (builtins)
    all
    any
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    foldl'
    functionArgs
    head
    intersectAttrs
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    mapAttrs
    match
    toJSON
    ;

  lib = rec {
    # Plain functions.
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    genAttrs = names: f: listToAttrs (map (name: { inherit name; value = f name; }) names);
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    filterAttrs = keep: set: listToAttrs (concatMap (name: optional (keep name set.${name}) { inherit name; value = set.${name}; }) (attrNames set));
    unique = foldl' (seen: x: if elem x seen then seen else seen ++ [ x ]) [ ];
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    removePrefix = prefix: text:
      if hasPrefix prefix text then builtins.substring (builtins.stringLength prefix) (-1) text else text;
    removeSuffix = suffix: text:
      let rest = builtins.stringLength text - builtins.stringLength suffix; in
      if builtins.substring rest (-1) text == suffix then builtins.substring 0 rest text else text;
    elem = builtins.elem;
    fileContents = file: removeSuffix "\n" (builtins.readFile file);
    escapeShellArg = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
    escapeShellArgs = list: concatStringsSep " " (map escapeShellArg list);
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    getExe' = package: name: "${package}/bin/${name}";
    makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);
    cleanSource = src: builtins.path { path = src; name = "source"; filter = path: _: baseNameOf path != ".git"; };
    licenses.mit = "MIT";

    # Options, and the properties of a definition: priorities and conditions.
    mkOption = option: option // { _type = "option"; };
    mkEnableOption = what: mkOption { type = types.bool; default = false; example = true; description = "Whether to enable ${what}."; };
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkMerge = contents: { _type = "merge"; inherit contents; };
    mkOverride = priority: content: { _type = "override"; inherit priority content; };
    mkForce = mkOverride 50;
    mkDefault = mkOverride 1000;

    isOption = value: (value._type or "") == "option";
    at = concatStringsSep ".";

    # plain evaluates the conditions of a definition, and returns zero or more definitions.
    plain = def:
      if (def._type or "") == "if" then optionals def.condition (plain def.content)
      else if (def._type or "") == "merge" then concatMap plain def.contents
      else [ def ];

    # spread moves the conditions of a set of definitions to each of its members.
    spread = set:
      if (set._type or "") == "if" then map (mapAttrs (_: mkIf set.condition)) (spread set.content)
      else if (set._type or "") == "merge" then concatMap spread set.contents
      else if (set._type or "") == "override" then map (mapAttrs (_: mkOverride set.priority)) (spread set.content)
      else [ set ];

    # mergeDefs merges the definitions of one option that have the highest priority.
    # Each must have the type of the option.
    mergeDefs = path: type: defs:
      let
        all' = concatMap plain defs;
        priority = def: if (def._type or "") == "override" then def.priority else 100;
        strongest = foldl' (a: b: if b < a then b else a) 9999 (map priority all');
        values = map (def: if (def._type or "") == "override" then def.content else def)
          (filter (def: priority def == strongest) all');
        wrong = filter (value: !type.check value) values;
      in
      if values == [ ] then throw "The option `${at path}' is used but not defined."
      else if wrong != [ ] then throw "A definition for option `${at path}' is not of type `${type.description}'."
      else type.merge path values;

    types =
      let
        one = path: values:
          if all (value: value == head values) values then head values
          else throw "The option `${at path}' has conflicting definition values.";
        single = path: values:
          if length values == 1 then head values
          else throw "The option `${at path}' is defined multiple times while it's expected to be unique.";
        simple = description: check: { inherit description check; merge = one; };
      in
      rec {
        bool = simple "boolean" isBool;
        int = simple "signed integer" isInt;
        ints.positive = simple "positive integer" (value: isInt value && value > 0);
        ints.between = low: high: simple "integer between ${toString low} and ${toString high}" (value: isInt value && low <= value && value <= high);
        str = simple "string" isString;
        path = simple "absolute path" (value: (isPath value || isString value || value ? outPath) && hasPrefix "/" (toString value));
        package = simple "package" (value: isAttrs value && (value.type or "") == "derivation") // { merge = single; };
        addCheck = type: check: type // { check = value: type.check value && check value; };
        anything = simple "anything" (_: true);
        enum = words: simple "one of ${toJSON words}" (value: elem value words);
        strMatching = pattern: simple "string matching the pattern ${pattern}" (value: isString value && match pattern value != null);
        nullOr = type: {
          description = "null or ${type.description}";
          check = value: value == null || type.check value;
          merge = path: values: if all (value: value == null) values then null
            else if any (value: value == null) values then throw "The option `${at path}' is defined both null and not null."
            else type.merge path values;
        };
        listOf = type: {
          description = "list of ${type.description}";
          check = isList;
          merge = path: values: map (value: mergeDefs path type [ value ]) (concatLists values);
        };
        nonEmptyListOf = type: addCheck (listOf type) (list: list != [ ]) // { description = "non-empty list of ${type.description}"; };
        attrsOf = type: {
          description = "attribute set of ${type.description}";
          check = isAttrs;
          merge = path: values:
            let sets = concatMap spread values; in
            genAttrs (unique (concatMap attrNames sets)) (name:
              mergeDefs (path ++ [ name ]) type (concatMap (set: optional (set ? ${name}) set.${name}) sets));
        };
        # A setting of a unit: one value, or a list that several modules extend. NixOS prints
        # a path with toString, which does not copy the file to the store.
        setting = {
          description = "systemd option";
          check = value: isBool value || isInt value || isString value || isPath value || isList value || value == null;
          merge = path: values:
            let print = value: if isPath value || value == null then toString value else value; in
            if all isList values then map print (concatLists values) else print (one path values);
        };
        submodule = module: {
          description = "submodule";
          check = value: isAttrs value || isFunction value;
          merge = path: values: (evalModules {
            inherit path;
            modules = [ module ] ++ map (value: { config = value; }) values;
            specialArgs.name = builtins.elemAt path (length path - 1);
          }).config;
        };
      };

    # evalModules evaluates modules into one config.
    evalModules = { modules, specialArgs ? { }, path ? [ ] }:
      let
        args = specialArgs // { inherit config lib; };
        # load adds a module to those before it, after its imports. A file, or a module with a
        # key, is added only once.
        load = seen: module:
          let
            given = if isPath module then import module else module;
            wanted = functionArgs given;
            value = if isFunction given then given (if wanted == { } then args else intersectAttrs wanted args) else given;
            key = value.key or (if isPath module then toString module else null);
            full = value ? options || value ? config;
            rest = removeAttrs value [ "options" "config" "imports" "key" ];
          in
          if key != null && any (other: other.key == key) seen then seen
          else if full && rest != { } then throw "Module has an unsupported attribute `${head (attrNames rest)}'."
          else
            foldl' load seen (value.imports or [ ])
            ++ [ { inherit key; options = value.options or { }; config = if full then value.config or { } else rest; } ];
        loaded = foldl' load [ ] modules;

        join = path: a: b:
          a // mapAttrs (name: value:
            if !(a ? ${name}) then value
            else if isOption value || isOption a.${name} then throw "The option `${at (path ++ [ name ])}' is already declared."
            else join (path ++ [ name ]) a.${name} value) b;
        options = foldl' (join path) { } (map (module: module.options) loaded);

        evaluate = path: options: sets:
          let strange = filter (name: !(options ? ${name})) (concatMap attrNames sets); in
          if strange != [ ] then throw "The option `${at (path ++ [ (head strange) ])}' does not exist."
          else mapAttrs (name: option:
            let
              here = path ++ [ name ];
              defs = concatMap (set: optional (set ? ${name}) set.${name}) sets;
              default = optional (option ? default) (mkOverride 1500 option.default);
            in
            if !isOption option then evaluate here option (concatMap spread defs)
            else if option.readOnly or false && length (default ++ defs) > 1 then throw "The option `${at here}' is read-only, but it's set multiple times."
            else (option.apply or (value: value)) (mergeDefs here option.type (default ++ defs))
          ) options;
        config = evaluate path options (concatMap (module: spread module.config) loaded);
      in
      { inherit config options; };

    # nixosSystem evaluates modules together with those of nixos.nix. NixOS defines pkgs and
    # utils in the configuration, so that a module cannot use them in its imports.
    nixosSystem = { system ? builtins.currentSystem, modules }:
      let
        late = builtins.seq result.options;
        result = evalModules {
          modules = [ ./nixos.nix ] ++ modules;
          specialArgs = {
            pkgs = late (import ./. { inherit system; });
            # systemd also expands % and $ inside quotes.
            utils = late { escapeSystemdExecArgs = args: concatStringsSep " " (map (arg: builtins.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (toJSON arg)) args); };
          };
        };
      in
      result;
  };
in
lib
