#!/usr/bin/env python3
"""Measures gateways in turns of a few seconds, for machines whose speed changes by the minute.

    setsid -w ./turns.py TEST [--starts 4] [--rounds 2] [--secs 3] [--threads] NAME=pass NAME=/path/to/aoai-gateway ...

TEST is one of measure.py's: json_1k, json_100k, paced_100, paced_10, fast_32. `pass` stands for the bare pass-through; any
other word is one of our binaries, which gets settings and a database of its own. All are up at once and take turns in every
round, so a ratio is that of neighbouring seconds; all are started anew several times, because where in memory a process
comes to lie makes some percent of difference for as long as it runs. Prints CPU in µs per request or chunk: each round, the
medians, and the median of the rounds' ratios to the first of them; with --threads also what each thread takes.
`bench/run` has to have built the tools.
"""
import argparse, collections, glob, os, statistics, time
import measure, settings
from bench import spawn, start, stop
from measure import HERE, Target, control


def prepare(number, text):
    name, command = text.split("=", 1)
    port = 8100 + number
    if command == "pass":
        words = [f"{HERE}/target/release/pass-actix", f"127.0.0.1:{port}", "http://127.0.0.1:9001", "sk-bench"]
    else:
        words = settings.prepare(command, f"{HERE}/out/turns-{name}", port)
    return {"name": name, "cmd": words}, f"http://127.0.0.1:{port}/v1/chat/completions"


def of_threads(pid):
    """Nanoseconds that each thread has run."""
    used = {}
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            used[path] = int(open(path).read().split()[0])
        except OSError:
            pass
    return used


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("test"), parser.add_argument("peers", nargs="+"), parser.add_argument("--threads", action="store_true")
    parser.add_argument("--starts", type=int, default=4), parser.add_argument("--rounds", type=int, default=2), parser.add_argument("--secs", type=float, default=3)
    args = parser.parse_args()
    if os.getpid() != os.getsid(0):
        raise SystemExit("run me as: setsid -w ./turns.py ...  (a session, and so a scheduling group, of my own)")
    measure.boost(os.getpid())
    os.makedirs(f"{HERE}/out", exist_ok=True)
    upstream = spawn([f"{HERE}/target/release/fake-upstream", "127.0.0.1:9001"], "0", "upstream")
    names = [text.split("=", 1)[0] for text in args.peers]
    figures, threads = {name: [] for name in names}, {name: collections.Counter() for name in names}
    try:
        time.sleep(0.5)
        control(delay_us=0, interval_us=0, chunks=100)
        print("round".ljust(8) + "".join(name.rjust(12) for name in names), flush=True)
        for turn in range(args.starts):
            running, targets = [], []
            # Who comes first is another one each time.
            peers = list(enumerate(args.peers))
            peers = peers[turn % len(peers):] + peers[:turn % len(peers)]
            try:
                for number, text in peers:
                    peer, url = prepare(number, text)
                    target = Target(peer["name"], url, [], "sk-bench", secs=args.secs)
                    process, _ = start(peer, target)
                    if not process:
                        raise SystemExit(f"{peer['name']} does not answer; see {HERE}/out/{peer['name']}.log")
                    running.append(process), targets.append(target)
                    target.wrk(1024, secs=1)
                for _ in range(args.rounds):
                    for target in targets:
                        before = of_threads(target.pids[0])
                        found = getattr(target, args.test)()
                        if found["errors"]:
                            print(f"{target.name}: {found['errors']} errors {found.get('error', '')}")
                        count = args.secs * (found.get("chunks_per_sec") or found["per_sec"])
                        used = [used - before.get(path, 0) for path, used in of_threads(target.pids[0]).items()]
                        figures[target.name].append(sum(used) / 1000 / count)
                        for place, nanoseconds in enumerate(sorted(used, reverse=True)):
                            threads[target.name][place] += nanoseconds / 1000 / count
                    print(str(len(figures[names[0]])).ljust(8) + "".join(f"{figures[name][-1]:12.2f}" for name in names), flush=True)
            finally:
                for process in running:
                    stop(process)
        print("median".ljust(8) + "".join(f"{statistics.median(figures[name]):12.2f}" for name in names))
        ratios = (statistics.median(mine / its for mine, its in zip(figures[name], figures[names[0]])) for name in names)
        print("ratio".ljust(8) + "".join(f"{ratio:12.3f}" for ratio in ratios))
        for place in range(3 if args.threads else 0):
            means = (threads[name][place] / len(figures[name]) for name in names)
            print(f"thread {place + 1}" + "".join(f"{mean:12.2f}" for mean in means))
    finally:
        stop(upstream)


if __name__ == "__main__":
    main()
