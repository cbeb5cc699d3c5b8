# SPDX-License-Identifier: Apache-2.0
"""Hosts made of network namespaces: each has a network of its own, all joined by one bridge, and can be cut off.

What runs in a host by its command() reaches other hosts and the bridge's address over TCP alone, through a link whose
bytes are counted. Needs root and `ip`. close() takes away all that was made.
"""

import os
import pathlib
import shutil
import subprocess


def unavailable() -> str:
    """Why hosts cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "there is no `ip` (Debian: iproute2)"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True)
    return f"no network namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def ip(*words):
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")


class Hosts:
    def __init__(self, num_hosts: int):
        self.num_hosts = num_hosts
        self._name = f"ek{os.getpid() % 100000}"  # interfaces' names hold 15 characters
        subnet = f"10.{83 + os.getpid() % 100}.{os.getpid() // 100 % 256}"
        self.bridge_address = f"{subnet}.254"
        try:
            ip("link", "add", self._name, "type", "bridge")
            ip("address", "add", f"{self.bridge_address}/24", "dev", self._name)
            ip("link", "set", self._name, "up")
            for host in range(num_hosts):
                self._add(host, f"{subnet}.{host + 1}/24")
        except Exception:
            self.close()
            raise

    def _link(self, host: int) -> str:
        return f"{self._name}-{host}"

    def _add(self, host: int, address: str):
        link = self._link(host)
        ip("netns", "add", link)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", link)
        ip("link", "set", link, "master", self._name, "up")
        ip("-n", link, "address", "add", address, "dev", "eth0")
        ip("-n", link, "link", "set", "eth0", "up")
        ip("-n", link, "link", "set", "lo", "up")

    def command(self, host: int) -> list[str]:
        """Runs what follows it in the host."""
        return ["ip", "netns", "exec", self._link(host)]

    def cut(self, host: int):
        ip("link", "set", self._link(host), "down")

    def heal(self, host: int):
        ip("link", "set", self._link(host), "up")

    def bytes_out(self, host: int) -> int:
        """That the host has sent to the others and to the bridge."""
        return int(pathlib.Path(f"/sys/class/net/{self._link(host)}/statistics/rx_bytes").read_text())

    def close(self):
        for host in range(self.num_hosts):
            subprocess.run(["ip", "netns", "delete", self._link(host)], capture_output=True)
        subprocess.run(["ip", "link", "delete", self._name], capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
