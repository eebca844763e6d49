# The program, its man page, its message catalog and its unit files.
#
# vendorHash is the hash of the output of `go mod vendor`. CONTRIBUTING.md has the
# command that updates it.
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
  vendorHash = "sha256-h7GXa8IT0J7WzcR/ALnJ405teY0AJjIRR9Qf5DWfWeo=";

  env.CGO_ENABLED = 0; # a static file, which also runs in guests without this store
  ldflags = [
    "-s"
    "-w"
    "-X main.stampedVersion=${version}"
    "-X main.stampedCommit=${revision}"
  ];

  # The tests run scripts with /usr/bin/env, which a build does not have.
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
    description = "Records the state of a guest for its host, in status.json, events.jsonl and result.json";
    homepage = "https://github.com/sledtools/pika-cloud-lifecycle";
    license = lib.licenses.mit;
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    mainProgram = "pika-cloud-lifecycle";
  };
}
