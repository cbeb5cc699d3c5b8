# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes manifests and the Dockerfile, as far as they can be checked without a cluster: what they refer to exists, and
our binaries take what they are given. Usage: kubernetes_test.py ROOT, a folder with deploy/ and the binaries."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(sys.argv[1]).resolve()
FOLDER = ROOT / "deploy/kubernetes"
# Of these images we know what is in them.
PROGRAMS = {"evenkeel/controller": "controller/evenkeel-controller", "evenkeel/agent": "agent/evenkeel-agent"}
# Read at run time by others, or made by cert-manager.
PATHS_SERVED = {"/healthz", "/readyz", "/metrics"}


def documents() -> list[tuple[str, dict]]:
    return [(path.name, document) for path in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())
            if document["kind"] != "Kustomization"]


def of_kind(*kinds: str) -> list[dict]:
    return [document for _, document in documents() if document["kind"] in kinds]


def workloads() -> list[dict]:
    return of_kind("StatefulSet", "DaemonSet", "Deployment")


def containers():
    for workload in workloads():
        pod = workload["spec"]["template"]["spec"]
        for container in pod["containers"]:
            yield workload, pod, container


def is_ours(container: dict) -> bool:
    return container["image"].split(":")[0] in PROGRAMS


def test_every_document_is_named_and_the_kustomization_lists_every_file():
    for name, document in documents():
        assert document["apiVersion"] and document["metadata"]["name"], name
    keys = [(d["kind"], d["metadata"]["name"]) for _, d in documents()]
    assert len(keys) == len(set(keys)), f"named twice: {sorted(key for key in keys if keys.count(key) > 1)}"
    listed = set(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "engines-with-agents.yaml"}
    assert listed == files, listed ^ files


def test_selectors_match_their_pods():
    labels_of = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads()]
    for workload in workloads():
        wanted = workload["spec"]["selector"]["matchLabels"].items()
        assert wanted <= workload["spec"]["template"]["metadata"]["labels"].items(), workload["metadata"]["name"]
    for service in of_kind("Service"):
        wanted = service["spec"]["selector"].items()
        pods = [w for w in workloads() if wanted <= w["spec"]["template"]["metadata"]["labels"].items()]
        assert len(pods) == 1, service["metadata"]["name"]
        ports = {port["name"] for c in pods[0]["spec"]["template"]["spec"]["containers"] for port in c.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, service["metadata"]["name"]
    for policy in of_kind("NetworkPolicy"):
        wanted = policy["spec"]["podSelector"].get("matchLabels", {}).items()
        assert any(wanted <= labels.items() for labels in labels_of), policy["metadata"]["name"]


def test_volumes_are_there_and_come_from_what_is_there():
    maps = {document["metadata"]["name"] for document in of_kind("ConfigMap")}
    secrets = {document["spec"]["secretName"] for document in of_kind("Certificate")}
    for workload, pod, container in containers():
        claims = workload["spec"].get("volumeClaimTemplates", [])
        names = {volume["name"] for volume in pod["volumes"]} | {claim["metadata"]["name"] for claim in claims}
        for mount in container.get("volumeMounts", []):
            assert mount["name"] in names, (container["name"], mount)
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps, volume
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets, volume


def test_our_containers_may_do_little_and_ask_for_resources():
    for _, _, container in containers():
        if not is_ours(container):
            continue
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False and security["readOnlyRootFilesystem"] is True, container["name"]
        assert security["capabilities"]["drop"] == ["ALL"] and "privileged" not in security, container["name"]
        assert "requests" in container["resources"], container["name"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                get = container[probe]["httpGet"]
                assert get["path"] in PATHS_SERVED and get["port"] in {p["name"] for p in container["ports"]}, container[probe]


def test_our_binaries_know_every_flag():
    for _, _, container in containers():
        if not is_ours(container):
            continue
        program = PROGRAMS[container["image"].split(":")[0]]
        said = subprocess.run([ROOT / program, "--help"], capture_output=True, text=True, timeout=30).stdout
        known = set(re.findall(r"^\s+--(\w+) \(", said, re.M))
        given = {argument.split("=")[0].removeprefix("--").replace("-", "_") for argument in container["args"]}
        assert given <= known, f"{container['name']}: {sorted(given - known)}"
        variables = {entry["name"] for entry in container.get("env", [])}
        used = set(re.findall(r"\$\((\w+)\)", " ".join(container["args"])))
        assert used <= variables, f"{container['name']}: {sorted(used - variables)}"


def test_the_controllers_configuration_is_right():
    text = next(d for d in of_kind("ConfigMap") if d["metadata"]["name"] == "evenkeel-controller")["data"]["controller.textproto"]
    with tempfile.TemporaryDirectory() as directory:
        tls = pathlib.Path(directory) / "tls"
        tls.mkdir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=test", "-keyout", tls / "tls.key", "-out", tls / "tls.crt"], check=True, capture_output=True)
        shutil.copy(tls / "tls.crt", tls / "ca.crt")
        config = pathlib.Path(directory) / "controller.textproto"
        config.write_text(text.replace("/etc/evenkeel/tls", str(tls)).replace("/var/lib/evenkeel", directory))
        said = subprocess.run([ROOT / PROGRAMS["evenkeel/controller"], f"--config={config}", "--check_config"], capture_output=True,
                              text=True, timeout=30)
        assert said.returncode == 0, said.stderr


def test_the_dockerfile_copies_from_stages_and_packages_that_there_are():
    text = (ROOT / "deploy/Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", text, re.M))
    assert {name.split("/")[1] for name in PROGRAMS} <= stages, stages
    assert set(re.findall(r"--from=(\w+)", text)) <= stages
    packages = set(re.findall(r"^Package: (\S+)", (ROOT / "deploy/debian/control").read_text(), re.M))
    assert set(re.findall(r"/packages/([\w-]+)_\*", text)) == packages, "every package is in an image"
    for program in re.findall(r'^ENTRYPOINT \["/usr/bin/([\w-]+)"\]', text, re.M):
        assert program in packages, program


def main() -> int:
    tests = [(name, function) for name, function in globals().items() if name.startswith("test_")]
    failed = 0
    for name, function in tests:
        try:
            function()
        except AssertionError as error:
            failed += 1
            print(f"{name}: {error}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
