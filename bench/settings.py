#!/usr/bin/env python3
"""Writes the settings under which the gateway is measured, and makes its key.

    settings.py BINARY [FOLDER [PORT]]     (from bench/run; FOLDER, out/ours, begins anew, with settings/ and data/)

One resource, the fake upstream; one worker. Key check, limits and ledger are on: the limits are only too high to be
reached, and the ledger is on disk as in production.
"""
import json, os, shutil, subprocess, sys, time, urllib.error, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ADMIN_KEY = "bench-admin-key-that-opens-nothing-else"
SETTINGS = """
[server]
listen = "127.0.0.1:PORT"
workers = 1

[admin]
key = "ADMIN_KEY"

[database]
url = "sqlite:FOLDER/data/gateway.db"

[defaults.limits]
rpm = 10_000_000
tpm = 1_000_000_000
concurrency = 100_000

[models."gpt-4o"]
price = { input = 2.5, cached_input = 1.25, output = 10.0 }

[resources.bench]
endpoint = "http://127.0.0.1:9001"
api_key = "upstream-key"
api_version = "2024-10-21"

[resources.bench.deployments]
"gpt-4o" = "gpt-4o"
"""


def ask(port, path, body=None):
    headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    return urllib.request.urlopen(request, timeout=5).read()


def prepare(binary, folder=f"{HERE}/out/ours", port=8080):
    """Makes the folder; gives the command that serves from it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(f"{folder}/settings"), os.makedirs(f"{folder}/data")
    text = SETTINGS.replace("PORT", str(port)).replace("FOLDER", folder).replace("ADMIN_KEY", ADMIN_KEY)
    open(f"{folder}/settings/00-bench.toml", "w").write(text)
    command = [binary, "serve", "--settings", f"{folder}/settings"]
    gateway = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(f"{folder}/log", "w"))
    try:
        for _ in range(200):
            try:
                ask(port, "/healthz")
                break
            except OSError:
                if gateway.poll() is not None:
                    raise SystemExit(f"the gateway ended before it answered; see {folder}/log")
                time.sleep(0.05)
        try:
            ask(port, "/admin/v1/keys", {"name": "bench", "secret": "sk-bench"})
        except urllib.error.HTTPError as error:
            raise SystemExit(f"no key: {error} {error.read().decode()}")
    finally:
        gateway.terminate()
        gateway.wait(60)
    return command


if __name__ == "__main__":
    prepare(sys.argv[1], *sys.argv[2:3], *map(int, sys.argv[3:4]))
