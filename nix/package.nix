# The program, its man page, its message catalog and its unit files.
#
# vendorHash is the hash of what `go mod vendor` makes of go.mod; CONTRIBUTING.md
# has the command that sets it.
{
  lib,
  buildGoModule,
  jq,
  mandoc,
  python3,
  shellcheck,
  util-linux,
  version ? lib.fileContents ../VERSION,
  revision ? "unknown",
}:

buildGoModule {
  pname = "pika-cloud-lifecycle";
  inherit version;

  src = lib.cleanSource ../.;
  vendorHash = "sha256-JX3RR7slYWTDO9KXi7PO1CXyF5N8bOEKl8daxuS5z+s=";

  env.CGO_ENABLED = 0; # one static file, for guests without this store too
  ldflags = [
    "-s"
    "-w"
    "-X main.stampedVersion=${version}"
    "-X main.stampedCommit=${revision}"
  ];

  # A build has no /usr/bin/env, which the scripts that the tests run ask for.
  postPatch = ''
    patchShebangs nix docs testdata
  '';
  nativeCheckInputs = [
    jq
    mandoc
    python3
    shellcheck
    util-linux
  ];

  postInstall = ''
    bash nix/install.sh "$out"
  '';

  meta = {
    description = "Tells a host how its guest is doing: status.json, events.jsonl and result.json";
    homepage = "https://github.com/sledtools/pika-cloud-lifecycle";
    license = lib.licenses.mit;
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    mainProgram = "pika-cloud-lifecycle";
  };
}
