# SPDX-License-Identifier: Apache-2.0
"""The catalogue of bad input: every case is answered, by a status and a sentence that names what was wrong, and none disturbs a
group that serves. {F} is a folder with files that are no good, {nowhere} one that is not there."""

import array
import http.client
import json
import pathlib
import subprocess
import sys
import tempfile

import cases
from cases import case, check, check_equal
from cluster import Cluster, wait_for

QUIET = {"defaults": {"placement_enabled": False, "shares_enabled": False}}
PLAN = "plan --ranks=2 --slots-per-rank=5"

# Exit status | words of keelctl | what it says
TO_A_CONTROLLER = """
2 | nope | 'nope' is not a command
1 | groups --group=nope | no group nope; there are: tinymoe
1 | ranks --group=nope | no group nope; there are: tinymoe
1 | check --group=nope | no group nope; there are: tinymoe
1 | stats --group=nope | no group nope; there are: tinymoe
2 | stats --windows=0 | --windows=0: must be a whole number from 1 to 100000
2 | stats --windows=x | --windows=x: must be a whole number from 1 to 100000
2 | stats --windows=-1 | --windows=-1: must be a whole number from 1 to 100000
2 | stats --seconds=5 | --seconds is not an option of this command
2 | stats extra | 'extra' is not an option of this command
2 | map --rank=9 | --rank=9: must be a whole number from 0 to 1
2 | map --rank=-1 | --rank=-1: must be a whole number from 0 to 1
2 | map --rank=0 --prefer=far | prefer
2 | map --prefer=near | --prefer goes with --rank
2 | map --avoid=1 | --avoid goes with --rank
2 | map --hosts=0 | --hosts goes with --rank
2 | map --rank=0 --avoid=7 | 7
2 | map --format=xml --out={F}/x | format 'xml': there are evenkeel|expert_map|sglang|trtllm
2 | map --out={nowhere}/x | write {nowhere}/x: there is no such folder
2 | map --layers=4 | layer 4 of group tinymoe: its layers are 0 to 3
2 | map --layers=3-1 | '3-1' is neither a number nor a range like 3-5
2 | map --layers=a | 'a' is neither a number nor a range like 3-5
2 | map --layers= | '' is neither a number nor a range like 3-5
2 | rearrange --layers=0-9999999999 | '0-9999999999' is neither a number nor a range like 3-5
2 | rearrange --layers=99 | layer 99 of group tinymoe: its layers are 0 to 3
2 | rearrange --policy=nope | policy 'nope': there are deepseek,
2 | rearrange --dry-run=maybe | --dry-run takes no value
2 | rearrange --unknown=1 | --unknown is not an option of this command
1 | rearrange --group=nope | no group nope
2 | admit | RANK... is missing
2 | admit x | 'x'
2 | admit 9 | 9
2 | drain | RANK... is missing
2 | drain 5 | 5
2 | drain x | 'x'
2 | drain 1 --grace=-5 | --grace=-5
2 | drain 1 --grace=x | --grace=x
1 | operations --id=nope | unknown operation nope
1 | operations cancel nope | unknown operation nope
2 | operations cancel | ID is missing
2 | operations --limit=0 | --limit is not an option of this command
1 | resume | group tinymoe is not paused
1 | pause --group=nope | no group nope
2 | mode nope | mode is 'nope': off, record, shadow, shares or full wanted
2 | mode | MODE is missing: off, record, shadow, shares or full
2 | mode full extra | 'extra' is one operand too many
1 | explain --id=nope | unknown operation nope
2 | heat --by=x | --by is not an option of this command
2 | heat --layers=77 | layer 77: the group's layers are 0 to 3
2 | record | FILE is missing: the .npy file to write
2 | map save | FILE is missing
2 | map save {nowhere}/m.json | write {nowhere}/m.json: there is no such folder
2 | map apply | FILE is missing: a map in any of the forms of 'convert'
1 | map apply {nowhere} | open {nowhere}: no such file
1 | map apply {F} | open {F}: it is a folder
2 | map apply {F}/empty.json | empty.json: map: the file is empty
2 | map apply {F}/cut.json | cut.json: not JSON: parse error at line 1
2 | map apply {F}/shapeless.json | shapeless.json: has no num_experts
1 | map diff | no operation has moved anything under this controller
1 | map diff --map={nowhere} | open {nowhere}: no such file
1 | map diff --before=nope | operation nope moved nothing, or history does not hold it any more
2 | map diff --epoch=x | --epoch is x: TERM.NUMBER wanted
2 | map diff --epoch=1.2.3 | --epoch is 1.2.3: TERM.NUMBER wanted
1 | map rollback --before=nope | operation nope moved nothing
1 | map rollback --epoch=99.1 | nothing was moved since epoch 99.1
2 | map rollback --before=a --epoch=1.1 | at most one of them is wanted
2 | map pin | neither an expert nor a layer is named
2 | map pin --experts=0:0 | '0:0': LAYER:EXPERT@RANK wanted
2 | map pin --experts=a:b@c | 'a:b@c': LAYER:EXPERT@RANK wanted
2 | map pin --experts=0:0@9 | rank 9: 0 to 1 wanted
2 | map pin --experts=9:0@0 | layer 9: 0 to 3 wanted
2 | map pin --experts=0:64@0 | expert 64: 0 to 63 wanted
2 | map pin --layers=9 | layer 9: 0 to 3 wanted
2 | map unpin | which pins?
1 | map unpin --id=nope | group tinymoe has no pins nope
2 | load | --url is needed
2 | load --url=http://127.0.0.1:1 | --prompts is needed
1 | load --url=http://127.0.0.1:1 --prompts={nowhere} | open {nowhere}: no such file
2 | load --url=http://127.0.0.1:1 --prompts={F}/empty.json | no prompt in it
2 | top extra | 'extra' is not an option of this command
3 | groups --controller=127.0.0.1:1 | is a controller running there? --controller=HOST:PORT names another
3 | groups --controller=nonsense | is a controller running there? --controller=HOST:PORT names another
2 | groups --credentials={nowhere} | {nowhere}
"""

OF_FILES = """
2 | plan | --loads is needed
2 | plan --loads={F}/ok.npy | --ranks is needed
1 | {PLAN} --loads={nowhere} | open {nowhere}: no such file
1 | {PLAN} --loads={F} | open {F}: it is a folder
2 | {PLAN} --loads={F}/empty.npy | empty.npy: loads: window 0 is empty
2 | {PLAN} --loads={F}/cut.npy | which is not 8 for each value of shape (4, 2, 8)
2 | {PLAN} --loads={F}/cut.json | cut.json: not JSON: parse error at line 1
2 | {PLAN} --loads={F}/ragged.json | loads[0][1] has 1 values, its first neighbour 2
2 | {PLAN} --loads={F}/negative.npy | value [0, 0, 0] is negative
2 | {PLAN} --loads={F}/ok.npy --ranks=0 | given twice
2 | plan --ranks=0 --slots-per-rank=5 --loads={F}/ok.npy | --ranks=0: must be a whole number from 1 to 65536
2 | plan --ranks=99999999 --slots-per-rank=5 --loads={F}/ok.npy | --ranks=99999999: must be a whole number
2 | plan --ranks=2 --slots-per-rank=3 --loads={F}/ok.npy | 2 ranks x 3 slots have room for 6 experts; there are 8
2 | {PLAN} --loads={F}/ok.npy --nodes=3 | --nodes=3: must be a whole number from 1 to 2
2 | {PLAN} --loads={F}/ok.npy --expert-groups=3 | --expert-groups=3: 8 experts cannot be divided among them
2 | {PLAN} --loads={F}/ok.npy --policy=nope | policy 'nope': there are deepseek,
2 | {PLAN} --loads={F}/ok.npy --window=3:1 | windows '3:1': there are none in that range
2 | {PLAN} --loads={F}/ok.npy --window=0:99 | windows '0:99': the file has 4 windows, 0 to 3
2 | {PLAN} --loads={F}/ok.npy --dead-ranks=2 | '2' is neither a number nor a range like 3-5 within 0 to 1
2 | {PLAN} --loads={F}/ok.npy --dead-ranks=0,1 | the living ranks have 0 slots for 8 experts
2 | {PLAN} --loads={F}/ok.npy --pin=0:99@0 | '0:99@0' is no LAYER:EXPERT:RANK
2 | {PLAN} --loads={F}/ok.npy --max-moves=-1 | --max-moves=-1: must be a whole number
1 | {PLAN} --loads={F}/ok.npy --current={nowhere} | open {nowhere}: no such file
2 | {PLAN} --loads={F}/ok.npy --out={nowhere}/x | --out: write {nowhere}/x: there is no such folder
2 | {PLAN} --loads={F}/ok.npy --format=nope --out={F}/x | format 'nope': there are evenkeel|expert_map|sglang|trtllm
2 | simulate | TIMELINE is missing
1 | simulate {nowhere} --ranks=2 --slots-per-rank=5 | open {nowhere}: no such file
2 | simulate {F}/ok.npy --ranks=2 --slots-per-rank=5 | --warmup=100 leaves nothing to score of 4 windows
2 | simulate {F}/ok.npy --ranks=2 --slots-per-rank=5 --warmup=1 --policy=flex,nope | policy 'nope': there are deepseek,
2 | simulate {F}/ok.npy --ranks=2 --slots-per-rank=5 --warmup=1 --interval=0 | '0' is no number of windows
2 | convert | FILE is missing: a map, or loads
1 | convert {nowhere} --to=sglang | open {nowhere}: no such file
2 | convert {F}/empty.json --to=sglang | map: the file is empty
2 | convert {F}/cut.json --from=evenkeel --to=sglang | not JSON: parse error at line 1
2 | show | FILE is missing
1 | show {nowhere} | open {nowhere}: no such file
2 | show {F}/cut.npy | which is not 8 for each value of shape (4, 2, 8)
2 | policies extra | 'extra' is not an option of this command
"""

OF_AGENTS = """
1 | --nope=1 | Unknown command line flag 'nope'
1 | --rank=x | Illegal value 'x' specified for flag 'rank'
2 | rank 0 | unexpected argument 'rank'
2 | --rank=0 | --group is missing
2 | --group=g | --rank is -1
2 | --group=g --rank=99999999 | --rank is 99999999
2 | --group=a.b --rank=0 | --group is a.b: only letters
1 | --group=g --rank=0 --region={nowhere} | open {nowhere}: No such file
1 | --group=g --rank=0 --region={F}/ok.npy | ok.npy: not such an object
1 | --group=g --rank=0 --region={F}/empty.json | empty.json: not such an object
2 | --group=g --rank=0 --log_level=loud | log level 'loud' is none of trace,
2 | --group=g --rank=0 --log_format=xml | log format 'xml' is none of text, json
2 | --group=g --rank=0 --credentials={nowhere} | {nowhere}
"""

OF_CONTROLLERS = """
1 | --nope=1 | Unknown command line flag 'nope'
1 | --episode_steps=x | Illegal value 'x' specified for flag 'episode_steps'
2 | extra | unexpected argument 'extra'
2 | --config={nowhere} | configuration {nowhere}: cannot be read
2 | --config={F} | configuration {F}: cannot be read
2 | --config={F}/cut.json | cut.json: Unexpected end of string
2 | --config={F}/number.json | (listen): invalid value 5 for type TYPE_STRING
2 | --config={F}/unknown.txt | has no field named "nope"
2 | --listen=nonsense | listen is 'nonsense': HOST:PORT wanted
2 | --listen=127.0.0.1:99999 | listen is '127.0.0.1:99999': HOST:PORT wanted
2 | --listen=127.0.0.1:0 --http_listen=x | http_listen is 'x': HOST:PORT wanted
1 | --listen=127.0.0.1:0 --store={nowhere}/x.db | store {nowhere}/x.db: open
1 | --listen=127.0.0.1:0 --store={F}/ok.npy | file is not a database
2 | --listen=127.0.0.1:0 --log_level=loud | log level 'loud' is none of trace,
2 | --listen=127.0.0.1:0 --policy=nope | defaults.policy: policy 'nope': there are deepseek,
2 | --listen=127.0.0.1:0 --eplb_config={ | eplb-config is no JSON
2 | --listen=127.0.0.1:0 --eplb_config={"nope":1} | eplb_config.nope is not known
"""

# HTTP status | method and path | body | what it says
OF_HTTP = """
404 | GET /nope | | nothing at GET /nope
404 | POST /healthz | {} | nothing at POST /healthz
404 | PUT /metrics | | nothing at PUT /metrics
404 | POST /v1/Nope | {} | Nope
405 | GET /v1/Rearrange | | Rearrange
400 | POST /v1/Rearrange | { | no JSON of evenkeel.v1.RearrangeRequest
400 | POST /v1/Rearrange | [] | Root element must be a message
400 | POST /v1/Rearrange | {"nope":1} | nope: Cannot find field
400 | POST /v1/Rearrange | {"group":7} | (group): invalid value 7 for type TYPE_STRING
404 | POST /v1/Rearrange | {"group":"nope"} | no group nope; there are: tinymoe
400 | POST /v1/Rearrange | {"layers":[99]} | layer 99 of group tinymoe: its layers are 0 to 3
400 | POST /v1/Rearrange | {"policy":"nope"} | policy 'nope': there are deepseek,
400 | POST /v1/Rearrange | {"request_id":"a b"} | request_id has a character that is not printable
400 | POST /v1/Rearrange | {"load":[1]} | load has 1 numbers: 4 layers x 64 experts wanted
400 | POST /v1/GetGroup | null | Root element must be a message
404 | POST /v1/GetGroup | {"group":"nope"} | no group nope; there are: tinymoe
404 | GET /v1/GetGroup?group=nope | | no group nope; there are: tinymoe
400 | GET /v1/GetGroup?nope=1 | | has no field nope
400 | POST /v1/GetMap | {"layers":[99]} | layer 99
400 | POST /v1/AdmitRank | {"ranks":[77]} | 77
400 | POST /v1/DrainRank | {"ranks":[77]} | 77
400 | POST /v1/SetMode | {"mode":"x"} | mode is 'x': off, record, shadow, shares or full wanted
400 | POST /v1/Resume | {} | group tinymoe is not paused
400 | POST /v1/Pin | {} | neither an expert nor a layer is named
404 | POST /v1/CancelOperation | {"id":"nope"} | unknown operation nope
400 | POST /rearrange_experts | { | the body is no JSON object
400 | POST /rearrange_experts | {"action":"nope"} | invalid action nope
401 | POST /rearrange_experts | {"user":"x","passwd":"y"} | user or passwd is invalid
400 | POST /get_per_expert_tokens_stats | [] | the body is no JSON object
400 | POST /check_redundant | {"action":"nope"} | invalid action nope
"""


def rows(table: str, width: int) -> list[list[str]]:
    return [[part.strip() for part in line.split(" | ", width)] for line in table.replace("| |", "|  |").strip().splitlines()]


def write_bad_files(folder: pathlib.Path):
    def npy(values, shape):
        header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}"
        header += " " * (117 - len(header)) + "\n"
        return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + array.array("q", values).tobytes()

    whole = npy([5] * 64, (4, 2, 8))
    for name, content in [("ok.npy", whole), ("cut.npy", whole[:200]), ("empty.npy", npy([0] * 64, (4, 2, 8))),
                          ("negative.npy", npy([-1] * 64, (4, 2, 8))), ("empty.json", b""), ("cut.json", b"{"),
                          ("ragged.json", b"[[[1, 2], [3]]]"), ("shapeless.json", b'{"evenkeel_map": 1, "num_ranks": 3}'),
                          ("number.json", b'{"listen": 5}'), ("unknown.txt", b"nope: 1")]:
        (folder / name).write_bytes(content)


def run_all(table: str, command: list, folder: str) -> list[str]:
    """What was not as it should be, of every row."""
    wrong = []
    for row in rows(table, 2):
        status, words, says = (
            part.replace("{PLAN}", PLAN).replace("{F}", folder).replace("{nowhere}", "/nowhere/at/all") for part in row)
        own = command[:1] if "--controller=" in words else command
        done = subprocess.run([*own, *words.split()], capture_output=True, text=True, timeout=60)
        said = done.stderr + done.stdout
        if done.returncode != int(status) or says not in said:
            wrong.append(f"{words}: {done.returncode} '{said.strip()[:300]}' instead of {status} '{says}'")
    return wrong


def ask_all(address: str) -> list[str]:
    wrong = []
    for status, route, body, says in rows(OF_HTTP, 3):
        method, path = route.split()
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request(method, path, body=body or None, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        if answer.status != int(status) or says not in json.dumps(said) + said:
            wrong.append(f"{route} {body}: {answer.status} '{said[:300]}' instead of {status} '{says}'")
    return wrong


@case
def every_bad_input_is_answered_and_the_group_serves_on():
    tables = (TO_A_CONTROLLER, OF_FILES, OF_AGENTS, OF_CONTROLLERS, OF_HTTP)
    print(f"{sum(len(rows(table, 1)) for table in tables)} cases of bad input")
    with Cluster(cases.options(ranks=2, config=QUIET)) as cluster, tempfile.TemporaryDirectory() as folder:
        write_bad_files(pathlib.Path(folder))
        binaries = cluster.options.binaries
        wrong = run_all(OF_FILES, [binaries.keelctl], folder)
        wrong += run_all(OF_AGENTS, [binaries.agent], folder)
        wrong += run_all(OF_CONTROLLERS, [binaries.controller], folder)
        cluster.start()
        cluster.wait_until_serving()
        before = cluster.group()["epoch"]
        wrong += run_all(TO_A_CONTROLLER, [binaries.keelctl, f"--controller={cluster.address}"], folder)
        wrong += ask_all(cluster.http_address)
        check(not wrong, "\n" + "\n".join(wrong))
        cluster.check_alive()
        check_equal(cluster.group()["epoch"], before, "epoch of the maps")
        checked = cluster.engine_total("checked_tokens")
        wait_for("tokens that were checked afterwards", lambda: cluster.engine_total("checked_tokens") > checked, 60)
        statuses = cluster.stop_engines()
        cluster.check_text()
        check_equal(set(statuses.values()), {0}, "exit statuses of the engines")


if __name__ == "__main__":
    sys.exit(cases.main())
