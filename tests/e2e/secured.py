# SPDX-License-Identifier: Apache-2.0
"""A group whose parts know each other by certificates and tokens; the certificates are made by the commands of docs/security.md."""

import contextlib
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

RANKS = 4


class Authority:
    """A folder with the certificates of docs/security.md, and others on demand."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        page = pathlib.Path(os.environ["EVENKEEL_BINARIES"], "docs/security.md").read_text()
        self.commands = re.search(r"```bash\n(.*?)```", page, re.S)[1]
        self.run(self.commands)

    def run(self, commands: str):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=self.folder, capture_output=True, text=True, timeout=60)
        check_equal(done.returncode, 0, f"status of the commands ({done.stderr[-2000:]})")

    def sign(self, name: str, names: str, days: int = 90):
        self.run(self.commands[self.commands.index("sign() {"):self.commands.index("sign controller")] + f'sign {name} "{names}" {days}')

    def credentials(self, name: str) -> str:
        return str(self.folder / f"{name}.credentials")


class Group(Cluster):
    """Agents of even ranks have a certificate for two ranks, others one for all."""

    def __init__(self, authority: Authority, **config):
        folder = authority.folder
        super().__init__(cases.options(
            ranks=RANKS, keelctl_flags=[f"--credentials={authority.credentials('alice')}"],
            config={"tls_certificate": str(folder / "controller.pem"), "tls_key": str(folder / "controller.key"),
                    "tls_client_ca": str(folder / "ca.pem"), "defaults": {"placement_enabled": False}, **config},
            engine_flags=["--batch=8", "--prompt_bytes=32", "--decode_bytes=16", "--tokens_per_second_max=300"]))
        self.authority = authority

    def start_agent(self, rank: int, *extra, before: list | None = None, name: str = ""):
        name = name or ("ranks-0-and-1" if rank < 2 else "all-ranks")
        super().start_agent(rank, f"--credentials={self.authority.credentials(name)}", *extra, before=before)

    def ask(self, *arguments, env: dict | None = None) -> tuple[int, str]:
        """keelctl as it is called, without this cluster's own credentials."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("EVENKEEL_")}
        done = subprocess.run([self.options.binaries.keelctl, f"--controller={self.address}", *arguments], capture_output=True,
                              text=True, timeout=60, env={**clean, **(env or {})})
        return done.returncode, done.stdout + done.stderr

    def get(self, path: str, name: str = "alice", headers: dict | None = None, method: str = "GET") -> tuple[int, str]:
        """By HTTPS with a certificate; its name empty: without."""
        folder = self.authority.folder
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        if name:
            context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        request = urllib.request.Request(f"https://{self.http_address}{path}", headers=headers or {}, method=method,
                                         data=b"{}" if method == "POST" else None)
        try:
            with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def refused(self, reason: str) -> int:
        status, page = self.get("/metrics")
        check_equal(status, 200, "status of /metrics")
        return int(re.search(rf'evenkeel_refused_total{{reason="{reason}"}} (\d+)', page)[1])

    @contextlib.contextmanager
    def counted(self, reason: str):
        before = self.refused(reason)
        yield
        wait_for(f"a refusal for {reason} to be counted", lambda: self.refused(reason) > before, 20)


@contextlib.contextmanager
def secured(**config):
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(pathlib.Path(folder))
        with Group(authority, **config) as cluster:
            yield authority, cluster


def serial_on(address: str) -> str:
    host, port = address.rsplit(":", 1)
    pem = ssl.get_server_certificate((host, int(port)))
    return subprocess.run(["openssl", "x509", "-noout", "-serial"], input=pem, capture_output=True, text=True, check=True).stdout


@case
def a_group_with_certificates_serves_rearranges_and_goes_on_when_they_are_renewed():
    with secured() as (authority, cluster):
        cluster.start()
        cluster.wait_until_serving()
        wait_for("load", lambda: cluster.group().get("totals", {}).get("load_reports", 0) > 20, 60)
        operation = cluster.rearrange(policy="deepseek")
        check_equal(operation["state"], "OPERATION_STATE_DONE", "the rearrangement's end")
        check(operation["requested_by"].startswith("alice"), f"it is noted as {operation['requested_by']}'s")
        check(cluster.totals()["moves"] > 0, "nothing was moved")
        old = {address: serial_on(address) for address in (cluster.address, cluster.http_address)}
        reports = cluster.totals()["load_reports"]
        for name, names in (("controller", "DNS:localhost,IP:127.0.0.1"), ("alice", "URI:evenkeel://operator"),
                            ("all-ranks", "URI:evenkeel://group/tinymoe")):
            authority.sign(name, names)
        for address, serial in old.items():
            wait_for(f"{address} to show the new certificate", lambda: serial_on(address) != serial, 20)
        wait_for("reports to go on", lambda: cluster.totals()["load_reports"] > reports + 20, 30)
        cluster.kill("agent-3")  # which comes with the new one
        cluster.start_agent(3)
        wait_for("the new agent", lambda: not cluster.group()["forming"] and all(
            member["attached"] for member in cluster.group()["members"]), 60)
        # The authorities too: those signed by another are let in as soon as it is there, and no sooner.
        authority.run("mkdir other && cd other && " + authority.commands)
        other = f"--credentials={authority.folder / 'other/alice.credentials'}"
        (authority.folder / "other/ca.pem").rename(authority.folder / "other/own.pem")
        (authority.folder / "other/ca.pem").write_bytes((authority.folder / "ca.pem").read_bytes())
        status, text = cluster.ask("groups", other)
        check(status == 1 and "the certificate of 'alice'" in text, f"another authority's: {text}")
        both = (authority.folder / "ca.pem").read_bytes() + (authority.folder / "other/own.pem").read_bytes()
        (authority.folder / "ca.pem").write_bytes(both)
        wait_for("the new authority to be trusted", lambda: cluster.ask("groups", other)[0] == 0, 20)
        cluster.stop_engines()
        cluster.check_text()


@case
def whoever_may_not_is_refused_with_the_reason_and_counted():
    with secured() as (authority, cluster):
        cluster.start()
        cluster.wait_until_serving()
        authority.run("mkdir other && cd other && " + authority.commands + "\ncp ../ca.pem ca.pem")
        authority.sign("late", "URI:evenkeel://operator", -1)
        authority.sign("nobody", "URI:https://example.org/nobody")
        refusals = [
            (str(authority.folder / "other/alice.credentials"), "groups", "untrusted_certificate", "the certificate of 'alice': "),
            (authority.credentials("late"), "groups", "expired_certificate", "certificate has expired"),
            (authority.credentials("nobody"), "groups", "no_role", "names no role"),
            (authority.credentials("bob"), "pause", "wrong_role", "Pause needs the role operator: bob is evenkeel://viewer"),
            (authority.credentials("all-ranks"), "groups", "wrong_role", "ListGroups needs the role viewer"),
            (str(authority.folder / "ca.pem"), "groups", "no_credentials", "a certificate is wanted"),
        ]
        for path, command, reason, text in refusals:
            with cluster.counted(reason):
                status, said = cluster.ask(command, f"--credentials={path}")
                check(status == 1 and text in said, f"{reason}: status {status}: {said}")
        check_equal(cluster.ask("groups", f"--credentials={authority.credentials('bob')}")[0], 0, "a viewer's status")
        for name, path, method, status, reason in (
                ("", "/metrics", "GET", 401, "no_credentials"), ("late", "/v1/ListGroups", "GET", 401, "expired_certificate"),
                ("bob", "/v1/Pause", "POST", 403, "wrong_role"), ("bob", "/rearrange_experts", "POST", 403, "wrong_role")):
            with cluster.counted(reason):
                check_equal(cluster.get(path, name, method=method)[0], status, f"status of {method} {path} as '{name}'")
        check_equal(cluster.get("/v1/ListGroups", "bob")[0], 200, "a viewer's status by HTTPS")
        check_equal(cluster.get("/healthz", "")[0], 200, "a probe's status")
        for name, reason in (("ranks-0-and-1", "other_rank"), ("alice", "wrong_role"), ("other-group", "other_group")):
            authority.sign("other-group", "URI:evenkeel://group/chat")
            cluster.kill("agent-3")
            with cluster.counted(reason):
                cluster.start_agent(3, name=name)
            cluster.kill("agent-3")
            cluster.start_agent(3)
            wait_for("rank 3 to be attached again", lambda: all(member["attached"] for member in cluster.group()["members"]), 60)
        check("attach as rank 3 of group tinymoe" in cluster.log_of("agent-3", 1000), "the agent does not say why")
        cluster.stop_engines()
        cluster.check_text()


@case
def experts_move_by_ucx_to_those_that_have_passes():
    with secured() as (_, cluster):
        cluster.options.agent_flags.append("--transport=ucx")
        cluster.start()
        cluster.wait_until_serving()
        wait_for("load", lambda: cluster.group().get("totals", {}).get("load_reports", 0) > 20, 60)
        check_equal(cluster.rearrange(policy="deepseek")["state"], "OPERATION_STATE_DONE", "the rearrangement's end")
        totals = cluster.totals()
        check(totals["moves"] > 0 and totals["moves_failed"] == 0, f"{totals['moves']} moves, {totals['moves_failed']} failed")
        cluster.stop_engines()
        cluster.check_text()


@case
def tokens_open_what_their_role_may_and_wrong_ones_nothing():
    with tempfile.TemporaryDirectory() as folder:
        keelctl = cases.options().binaries.keelctl
        made = [json.loads(subprocess.run([keelctl, "token", "new", f"--name={name}", f"--role={role}", "--json"], check=True,
                                          capture_output=True, text=True).stdout) for name, role in (("ci", "operator"), ("eye", "viewer"))]
        tokens = {token["name"]: token.pop("token") for token in made}
        authority = Authority(pathlib.Path(folder))
        with Group(authority, tokens=made) as cluster:
            cluster.start_controller()
            ca = f"--credentials={authority.folder / 'ca.pem'}"
            check_equal(cluster.ask("groups", ca, env={"EVENKEEL_TOKEN": tokens["eye"]})[0], 0, "a viewer's token")
            with cluster.counted("wrong_role"):
                status, text = cluster.ask("pause", ca, env={"EVENKEEL_TOKEN": tokens["eye"]})
                check(status == 1 and "eye is evenkeel://viewer" in text, f"a viewer's pause: {text}")
            with cluster.counted("bad_token"):
                status, text = cluster.ask("groups", ca, env={"EVENKEEL_TOKEN": tokens["eye"][:-1] + "_"})
                check(status == 1 and "the token is not one of those" in text, f"a wrong token: {text}")
            status, text = cluster.ask("pause", ca, env={"EVENKEEL_TOKEN": tokens["ci"]})
            check("role" not in text and "token" not in text, f"an operator's pause: {text}")
            bearer = {"Authorization": f"Bearer {tokens['eye']}"}
            check_equal(cluster.get("/v1/ListGroups", "", bearer)[0], 200, "a viewer's token by HTTPS")
            check_equal(cluster.get("/v1/Pause", "", bearer, "POST")[0], 403, "a viewer's pause by HTTPS")
            log = cluster.log_of("controller", 10_000)
            check(not any(token in log for token in tokens.values()), "a token is in the log")


@case
def one_that_speaks_plainly_to_tls_or_the_reverse_is_told():
    with secured() as (authority, cluster):
        cluster.start_controller()
        status, text = cluster.ask("groups")
        check(status == 3 and "speaks TLS: --credentials" in text, f"plain to TLS: {status} {text}")
        plain = Cluster(cases.options())
        with plain:
            plain.start_controller()
            cluster.address = plain.address
            status, text = cluster.ask("groups", f"--credentials={authority.credentials('alice')}")
            check(status == 3 and "speaks without TLS" in text, f"TLS to plain: {status} {text}")
        cluster.address = "192.0.2.1:7400"
        status, text = cluster.ask("groups", env={"EVENKEEL_TOKEN": "ek_x"})
        check(status == 2 and "in the clear" in text, f"a token without TLS: {status} {text}")


@case
def beyond_loopback_nothing_is_served_in_the_clear_unless_a_flag_says_so():
    controller = cases.options().binaries.controller
    for flags, status, text in (
            (["--listen=0.0.0.0:0"], 2, "without tls_certificate: whoever reaches it could do everything; --trust_network"),
            (["--http_listen=0.0.0.0:0"], 2, "http_listen"),
            (["--listen=0.0.0.0:0", "--trust_network", "--check_config"], 0, ""),
            (["--listen=127.0.0.1:0", "--check_config"], 0, "")):
        done = subprocess.run([controller, *flags], capture_output=True, text=True, timeout=20)
        check_equal(done.returncode, status, f"status of {flags} ({done.stderr})")
        check(text in done.stderr, f"{flags} says {done.stderr}")


if __name__ == "__main__":
    sys.exit(cases.main())
