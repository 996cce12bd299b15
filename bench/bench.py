#!/usr/bin/env python3
"""Runs every peer of peers.json side by side, interleaved: rep by rep, test by test, peer by peer.

    bench.py OUT.jsonl [--reps 3] [--secs 4] [--only a,b] [--tests json_1k,fast_32] [--quiet 0.08]

Core 0: the fake upstream and the load generator; core 1: the gateways. Each gateway is started three times for
its cold-start time (spawn to first answered chat completion), then stays up, idle, while the others are measured.
A run during which other processes used more than --quiet of the machine is repeated, up to 3 times in all.
"""
import argparse, http.client, json, os, signal, subprocess, time, urllib.parse
import measure
from measure import HERE, Target, control, rss_mib

LOGS = f"{HERE}/out"


def spawn(command, core, log, env=None, cwd=None):
    out = open(f"{LOGS}/{log}.log", "ab")
    process = subprocess.Popen(["taskset", "-c", core] + command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                               env=dict(os.environ, **(env or {})), cwd=cwd, start_new_session=True)
    measure.boost(process.pid)
    return process


def stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def ask(target):
    """One chat completion; true when it was answered with 200."""
    url = urllib.parse.urlsplit(target.url)
    headers = {"content-type": "application/json"} | ({"authorization": "Bearer " + target.key} if target.key else {})
    headers |= dict(h.split(": ", 1) for h in target.headers)
    try:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
        connection.request("POST", url.path, open(target.body(1024, False), "rb").read(), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    except OSError:
        return False


def start(peer, target):
    began = time.monotonic()
    process = spawn(peer["cmd"], "1", peer["name"], peer.get("env"), peer.get("cwd"))
    while time.monotonic() - began < 90:
        if ask(target):
            target.pids = [process.pid]
            return process, time.monotonic() - began
        if process.poll() is not None:
            break
        time.sleep(0.002)
    stop(process)
    return None, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out"), parser.add_argument("--reps", type=int, default=3), parser.add_argument("--secs", type=float, default=4)
    parser.add_argument("--only"), parser.add_argument("--tests", default=",".join(measure.TESTS)), parser.add_argument("--quiet", type=float, default=0.08)
    args = parser.parse_args()
    os.makedirs(LOGS, exist_ok=True)
    if os.getpid() != os.getsid(0):
        raise SystemExit("run me as: setsid -w ./bench.py ...  (a session, and so a scheduling group, of my own)")
    measure.boost(os.getpid())
    out = open(args.out, "a")

    def note(**fields):
        line = json.dumps(fields)
        print(line, flush=True)
        out.write(line + "\n"), out.flush()

    peers = json.load(open(f"{HERE}/peers.json"))
    if args.only:
        peers = [p for p in peers if p["name"] in args.only.split(",")]
    upstream = spawn([f"{HERE}/target/release/fake-upstream", "127.0.0.1:9001"], "0", "upstream")
    os.environ["UPSTREAM_PID"] = str(upstream.pid)
    time.sleep(0.5)
    control(delay_us=0, interval_us=0, chunks=100)
    running, targets, sat = [], [], {}
    try:
        for peer in peers:
            target = Target(peer["name"], peer["url"], [], peer.get("key", "sk-bench"), peer.get("headers", []), peer.get("model", "gpt-4o"), args.secs)
            target.skip = peer.get("skip", [])
            if peer.get("cmd"):
                colds = []
                for go in range(3):
                    process, cold = start(peer, target)
                    if not process:
                        break
                    colds.append(round(cold * 1000, 1))
                    if go < 2:
                        stop(process)
                if not process:
                    note(name=peer["name"], test="start", failed=True)
                    continue
                running.append(process)
                time.sleep(1)
                note(name=peer["name"], test="start", cold_ms=sorted(colds)[1], colds=colds, idle_rss_mib=rss_mib(target.pids))
                target.wrk(1024, secs=2)  # warm-up
            targets.append(target)
        for rep in range(args.reps):
            for test in args.tests.split(","):
                for target in targets:
                    rate = {"rate_200": 200, "rate_1000": 1000}.get(test, 0)
                    if test in target.skip or rate * 1.25 > sat.get(target.name, 1e9):
                        continue
                    for go in range(3):
                        try:
                            found = getattr(target, test)()
                        except Exception as error:  # a peer that breaks a test must not end the run
                            note(name=target.name, test=test, rep=rep, failed=repr(error)[:300])
                            break
                        if test == "json_1k" and target.strangers <= args.quiet:
                            sat[target.name] = found["per_sec"]
                        note(name=target.name, test=test, rep=rep, go=go, strangers=target.strangers, **found, rss_mib=rss_mib(target.pids))
                        time.sleep(0.3)
                        if target.strangers <= args.quiet:
                            break
    finally:
        for process in running + [upstream]:
            stop(process)


if __name__ == "__main__":
    main()
