#!/usr/bin/env python3
"""Run a ComfyUI workflow through the comfyfleet API and save what it makes.

    export COMFYFLEET_SERVER=http://127.0.0.1:8080 COMFYFLEET_KEY=cfk_...
    python run_workflow.py workflow.json --media 107.png=photo.png \
        --set "16.positive_prompt=waves rolling in, a calm loop"
    python run_workflow.py --workflow-id wan22-smooth-loop --media 107.png=photo.png

Needs Python 3.9 and requests. Ends with 0 when the job completed, 1 when it failed, 2 when it was refused.
"""

import argparse
import base64
import hashlib
import json
import os
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urljoin

import requests

# How long a busy or restarting server is waited for, in seconds.
PATIENCE = 600


class Refused(Exception):
    """The server said no, and asking again would not help."""


class Client:
    def __init__(self, server, key):
        self.server = server.rstrip("/") + "/"
        self.http = requests.Session()
        self.key = key

    def call(self, method, path, *, timeout=30, **kwargs):
        """Send a request; wait and repeat while the server is busy, limits our rate or cannot be reached."""
        headers = {"Authorization": "Bearer " + self.key, **kwargs.pop("headers", {})}
        deadline = time.monotonic() + PATIENCE
        pause = 0.5
        while True:
            try:
                answer = self.http.request(
                    method, urljoin(self.server, path), headers=headers, timeout=timeout, **kwargs
                )
            except (requests.ConnectionError, requests.Timeout) as error:
                reason, wait = str(error), pause
            else:
                if answer.ok:
                    return answer
                if answer.status_code not in (429, 502, 503, 504):
                    raise Refused(problem(answer))
                reason = problem(answer)
                wait = float(answer.headers.get("Retry-After") or pause)
                answer.close()
            if time.monotonic() + wait > deadline:
                raise Refused(f"gave up after {PATIENCE} s: {reason}")
            time.sleep(wait)
            pause = min(2 * pause, 15)

    def submit(self, request):
        # The key makes repeating safe: the same one twice is one job.
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return self.call("POST", "v1/jobs", json=request, headers=headers, timeout=120).json()

    def status(self, job_id):
        # Without data=none the outputs would come as base64 in the answer.
        return self.call("GET", f"v1/jobs/{job_id}", params={"data": "none"}).json()

    def cancel(self, job_id):
        return self.call("DELETE", f"v1/jobs/{job_id}").json()

    def download(self, output, path):
        """Write an output beside its place and move it there when it is whole."""
        part = path.with_name(path.name + ".part")
        digest = hashlib.sha256()
        with self.call("GET", output["url"], stream=True) as answer, open(part, "wb") as file:
            for piece in answer.iter_content(1 << 20):
                file.write(piece)
                digest.update(piece)
        if digest.hexdigest() != output["sha256"]:
            part.unlink()
            raise OSError(f"{output['filename']} did not arrive whole")
        part.replace(path)


def problem(answer):
    """The server's own words for what is wrong (RFC 9457)."""
    try:
        body = answer.json()
    except ValueError:
        return f"{answer.status_code} {answer.reason}"
    lines = [f"{body.get('detail') or body.get('title')} ({answer.status_code})"]
    lines += [f"  {e['field']}: {e['detail']}" for e in body.get("errors") or []]
    return "\n".join(lines)


def show(status, started):
    """One line that is written over, as a terminal likes it; a new line for each change elsewhere."""
    percent = status["progress"]
    line = f"{status['status']:9} [{'#' * (percent * 30 // 100):30}] {percent:3}%"
    if status["nodes_total"]:
        line += f"  nodes {status['nodes_done']}/{status['nodes_total']}"
    if status["current_node"]:
        line += f"  at {status['current_node']}"
    if status["progress_max"]:
        line += f" {status['progress_value']}/{status['progress_max']}"
    if status["status"] == "queued" and status.get("waiting_reason"):
        line += f"  {status['waiting_reason']}"
    line += f"  {time.monotonic() - started:.0f} s"
    if sys.stderr.isatty():
        print(f"\r{line[:110]:110}", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr)


def follow(client, job_id, interval):
    started, last = time.monotonic(), None
    while True:
        status = client.status(job_id)
        seen = tuple(status[k] for k in ("status", "progress", "progress_value", "nodes_done", "current_node"))
        if seen != last or sys.stderr.isatty():
            show(status, started)
            last = seen
        if status["status"] in ("completed", "failed"):
            if sys.stderr.isatty():
                print(file=sys.stderr)
            return status
        time.sleep(interval)


def build_request(args):
    request = {"workflow_id": args.workflow_id} if args.workflow_id else {}
    if args.workflow:
        request["workflow"] = json.loads(Path(args.workflow).read_text(encoding="utf-8-sig"))
    for setting in args.set:
        target, _, value = setting.partition("=")
        node, _, field = target.partition(".")
        try:
            value = json.loads(value)
        except ValueError:
            pass  # a text
        request.setdefault("inputs", []).append({"node": node, "field": field, "value": value, "type": "raw"})
    for item in args.media:
        name, separator, path = item.partition("=")
        if not separator:
            name, path = Path(item).name, item
        data = base64.b64encode(Path(path).read_bytes()).decode()
        request.setdefault("media", []).append({"name": name, "data": data})
    if args.webhook:
        request["webhook_url"] = args.webhook
    return request


def parse_arguments():
    parser = argparse.ArgumentParser(description="Run a workflow and save its outputs.")
    parser.add_argument("workflow", nargs="?", help="graph in API format")
    parser.add_argument("--workflow-id", help="a workflow of the server's library instead")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.FIELD=VALUE")
    parser.add_argument("--media", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--webhook", metavar="URL")
    parser.add_argument("--out", default="outputs", help="directory for the outputs")
    parser.add_argument("--interval", type=float, default=1.5, help="seconds between two looks")
    parser.add_argument("--server", default=os.environ.get("COMFYFLEET_SERVER", "http://127.0.0.1:8080"))
    parser.add_argument("--key", default=os.environ.get("COMFYFLEET_KEY"))
    args = parser.parse_args()
    if bool(args.workflow) == bool(args.workflow_id):
        parser.error("name a workflow file or a --workflow-id")
    if not args.key:
        parser.error("no key: set COMFYFLEET_KEY or use --key")
    return args


def main():
    args = parse_arguments()
    client = Client(args.server, args.key)
    try:
        job_id = client.submit(build_request(args))["job_id"]
        print(f"job {job_id}", file=sys.stderr)
        try:
            status = follow(client, job_id, args.interval)
        except KeyboardInterrupt:
            print(f"\n{client.cancel(job_id)['message']}", file=sys.stderr)
            return 1
        if status["status"] == "failed":
            print(f"failed: {status['error']}", file=sys.stderr)
            for line in (status["error_log_tail"] or [])[-10:]:
                print(f"  | {line}", file=sys.stderr)
            return 1
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        for output in status["outputs"]:
            path = out / f"{job_id}_{Path(output['filename']).name}"
            client.download(output, path)
            print(path)
    except Refused as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
