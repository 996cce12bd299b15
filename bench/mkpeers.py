#!/usr/bin/env python3
"""Writes peers.json: how each gateway is started here and asked. Add yours by its name in GATEWAYS.

    mkpeers.py [--ours 'COMMAND WITH ARGS' --url http://127.0.0.1:8080/v1/chat/completions]
"""
import argparse, json, os, shlex

HERE = os.path.dirname(os.path.abspath(__file__))


def chat(port):
    return f"http://127.0.0.1:{port}/v1/chat/completions"


parser = argparse.ArgumentParser()
parser.add_argument("--ours"), parser.add_argument("--url", default=chat(8080)), parser.add_argument("--key", default="sk-bench")
parser.add_argument("--unbooked")
args = parser.parse_args()
peers = [
    {"name": "direct", "url": chat(9001)},
    {"name": "nginx-1w", "cmd": ["nginx", "-p", HERE, "-c", f"{HERE}/conf/nginx1.conf"], "url": chat(9103)},
    {"name": "pass-actix", "cmd": [f"{HERE}/target/release/pass-actix", "127.0.0.1:9101", "http://127.0.0.1:9001", "sk-bench"], "url": chat(9101)},
]
if args.ours:
    peers.append({"name": "ours", "cmd": shlex.split(args.ours), "url": args.url, "key": args.key})
if args.unbooked:
    peers.append({"name": "no-books", "cmd": shlex.split(args.unbooked), "url": chat(8082), "key": args.key})
os.makedirs(f"{HERE}/out", exist_ok=True)
json.dump(peers, open(f"{HERE}/peers.json", "w"), indent=1)
