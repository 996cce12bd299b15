#!/usr/bin/env python3
"""Writes the settings under which the gateway is measured, and makes its key.

    settings.py BINARY     (from bench/run; the folders beside this file, settings/ and data/, begin anew)

One resource, the fake upstream; one worker. Key check, limits and ledger are on: the limits are only too high to be
reached, and the ledger is on disk as in production.
"""
import json, os, shutil, subprocess, sys, time, urllib.error, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
BASE = "http://127.0.0.1:8080"
ADMIN_KEY = "bench-admin-key-that-opens-nothing-else"
SETTINGS = f"""
[server]
listen = "127.0.0.1:8080"
workers = 1

[admin]
key = "{ADMIN_KEY}"

[database]
url = "sqlite:{HERE}/data/gateway.db"

[defaults.limits]
rpm = 10_000_000
tpm = 1_000_000_000
concurrency = 100_000

[models."gpt-4o"]
price = {{ input = 2.5, cached_input = 1.25, output = 10.0 }}

[resources.bench]
endpoint = "http://127.0.0.1:9001"
api_key = "upstream-key"
api_version = "2024-10-21"

[resources.bench.deployments]
"gpt-4o" = "gpt-4o"
"""


def ask(path, body=None, key=ADMIN_KEY):
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(BASE + path, data, headers)
    return urllib.request.urlopen(request, timeout=5).read()


def main():
    for folder in ("settings", "data"):
        shutil.rmtree(f"{HERE}/{folder}", ignore_errors=True)
        os.makedirs(f"{HERE}/{folder}")
    open(f"{HERE}/settings/00-bench.toml", "w").write(SETTINGS)
    gateway = subprocess.Popen([sys.argv[1], "serve", "--settings", f"{HERE}/settings"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                ask("/healthz")
                break
            except OSError:
                if gateway.poll() is not None:
                    raise SystemExit("the gateway ended before it answered; its own words are above")
                time.sleep(0.05)
        try:
            ask("/admin/v1/keys", {"name": "bench", "secret": "sk-bench"})
        except urllib.error.HTTPError as error:
            raise SystemExit(f"no key: {error} {error.read().decode()}")
    finally:
        gateway.terminate()
        gateway.wait(60)


if __name__ == "__main__":
    main()
