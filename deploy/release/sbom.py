#!/usr/bin/env python3
"""Prints the bill of materials of the binary: a CycloneDX 1.5 document of every package that it is compiled from.

    deploy/release/sbom.py > headgate.cdx.json

What cargo resolves for this target, packages of tests left out; checksums are those of Cargo.lock. The same tree gives the
same document if SOURCE_DATE_EPOCH is set. Needs python 3.11 and cargo, and no network.
"""

import json
import os
import subprocess
import sys
import time
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
PRODUCT = "headgate"


def output(*command):
    # This setting of cargo would give the product the features of its tests.
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_RESOLVER_FEATURE_UNIFICATION"}
    return subprocess.run(command, cwd=TREE, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def compiled(target):
    """Names and versions of what is compiled into the product, or run to build it. `cargo metadata` has the features of tests on,
    and more packages with them; `cargo tree` has those of the product alone."""
    lines = output("cargo", "tree", "--locked", "-p", PRODUCT, "-e", "normal,build", "--target", target, "--prefix", "none", "-f", "{p}")
    return {(name, version.removeprefix("v")) for name, version in (line.split()[:2] for line in lines.splitlines())}


def dependencies(node):
    return [dep["pkg"] for dep in node["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums, kind):
    described = {"type": kind, "bom-ref": purl(package), "name": package["name"], "version": package["version"], "purl": purl(package)}
    if package["license"]:
        # Old packages write alternatives with a slash.
        described["licenses"] = [{"expression": package["license"].replace(" / ", "/").replace("/", " OR ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        described["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return described


def main():
    target = next(line.split(": ")[1] for line in output("rustc", "-vV").splitlines() if line.startswith("host: "))
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    lock = (TREE / "Cargo.lock").read_bytes()
    locked = tomllib.loads(lock.decode())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(id for id in metadata["workspace_members"] if packages[id]["name"] == PRODUCT)
    names = compiled(target)
    reached = sorted((id for id in nodes if (packages[id]["name"], packages[id]["version"]) in names), key=lambda id: purl(packages[id]))
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or time.time()
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, lock.decode()).urn,
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(epoch), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(packages[root], checksums, "application"),
        },
        "components": [component(packages[id], checksums, "library") for id in reached if id != root],
        "dependencies": [
            {"ref": purl(packages[id]), "dependsOn": sorted({purl(packages[dep]) for dep in dependencies(nodes[id]) if dep in reached})} for id in reached
        ],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


main()
