# nixpkgs with the package in it.
final: prev: {
  pika-cloud-lifecycle = final.callPackage ./package.nix { };
}
