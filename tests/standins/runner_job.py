"""What GitLab Runner makes of a job: payload, variables, stage scripts.

All of it follows share/runner-rules.json; the recorded cases hold it to the byte.
"""

import hashlib
import json
import os
import pathlib
import re
from dataclasses import dataclass, field

SOURCE = pathlib.Path(__file__).resolve().parents[2]
RULES = json.loads((SOURCE / "share/runner-rules.json").read_text())
LITERAL = re.compile(rb"[,\-./0-9@A-Z_a-z]")
NAMED = {0x07: "\\a", 0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0B: "\\v", 0x0C: "\\f", 0x0D: "\\r",
         0x27: "\\'", 0x5C: "\\\\"}


def quote(text):
    """text as one word of bash, in the runner's form: bare, or $'…' in ASCII."""
    data = text.encode() if isinstance(text, str) else text
    if not data:
        return "''"
    out = "".join(NAMED.get(b) or (chr(b) if 0x20 <= b < 0x7F else f"\\x{b:02x}") for b in data)
    return out if all(LITERAL.match(bytes([b])) for b in data) else f"$'{out}'"


def go_json(value):
    """JSON as Go encodes it: one line, <, > and & escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def slug(text):
    return re.sub(r"[^a-z0-9]", "-", text.lower())[:63].strip("-")


def fill(text, values):
    """Replaces @NAME@; a name without a value is a mistake of ours."""
    return re.sub(r"@([A-Z_]+)@", lambda m: str(values[m[1]]), text)


def expand(text, known):
    """Replaces $NAME and ${NAME}, unknown ones by nothing, once."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: known.get(m[1] or m[2], ""), text)


@dataclass
class Dirs:
    """Where a job lies on the host; all empty until config has answered."""

    builds: str = ""
    cache: str = ""
    project: str = ""

    @property
    def temp(self):
        return self.project + ".tmp"


@dataclass
class Job:
    """A job as a .gitlab-ci.yml describes it; everything has a default.

    `project` is the content of the project directory (name → bytes or str; None
    makes a directory), put there when get_sources is over. `artifacts`, `cache`,
    `services`, `dependencies` are in the payload's form; `artifacts` also takes a
    list of paths. `variables`: name → value, or a dict in the payload's form.
    `steps`: more user steps after the script, as (name, [lines]). `target`: the branch that the merge request of its
    pipeline is to go to; `ref` is then what GitLab calls that ("refs/merge-requests/5/head").
    """

    script: list = field(default_factory=lambda: ["true"])
    name: str = "docker_build"
    stage: str = "build"
    after_script: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    artifacts: list = field(default_factory=list)
    artifacts_when: str = "on_success"
    expire_in: str = ""
    cache: list = field(default_factory=list)
    dependencies: list = field(default_factory=list)
    variables: dict = field(default_factory=dict)
    image: str = ""
    services: list = field(default_factory=list)
    project: dict = field(default_factory=dict)
    project_path: str = "group/app"
    project_id: int = 42
    ref: str = "main"
    ref_type: str = "branch"
    target: str = ""
    sha: str = "60e138186b7a29a56fa04d6bed0a8b3bebd4c0f1"
    id: int = 1000
    pipeline_id: int = 500
    token: str = "glcbt-64_00000000000000001000"
    timeout: int = 3600
    tags: list = field(default_factory=lambda: ["tidewaiter"])
    extra: dict = field(default_factory=dict)

    def payload(self, server_url):
        """The response.json of the job, as a dict in the runner's order."""
        repo_url = server_url.replace("://", f"://gitlab-ci-token:{self.token}@") + f"/{self.project_path}.git"
        host, _, port = server_url.partition("://")[2].partition(":")
        namespace, _, project_name = self.project_path.rpartition("/")
        values = {
            "SERVER_URL": server_url, "SERVER_FQDN": f"{host}:{port}", "SERVER_HOST": host, "SERVER_PORT": port,
            "REPO_URL": repo_url, "TOKEN": self.token, "COMMIT_SHA": self.sha, "COMMIT_SHORT_SHA": self.sha[:8],
            "PIPELINE_ID": self.pipeline_id, "JOB_ID": self.id, "JOB_NAME": self.name,
            "JOB_NAME_SLUG": slug(self.name), "JOB_STAGE": self.stage, "PROJECT_ID": self.project_id,
            "PROJECT_NAME": project_name, "PROJECT_PATH": self.project_path,
            "PROJECT_PATH_SLUG": slug(self.project_path), "PROJECT_NAMESPACE": namespace,
            "PROJECT_ROOT_NAMESPACE": self.project_path.split("/")[0], "REF": self.ref, "REF_SLUG": slug(self.ref),
            "RUNNER_TAGS": go_json(self.tags), "STARTED_AT": "2026-01-01T00:00:00Z",
        }
        variables = [_variable(v["key"], fill(v["value"], values), public=v["public"], masked=v["masked"])
                     for v in RULES["job_variables"]]
        if self.target:
            variables = [v for v in variables if v["key"] not in ("CI_PIPELINE_SOURCE", "CI_COMMIT_BRANCH")]
            variables += [_variable("CI_PIPELINE_SOURCE", "merge_request_event"),
                          _variable("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", self.target)]
        if self.image:
            variables.append(_variable("CI_JOB_IMAGE", self.image))
        for key, value in {**self.variables, "GIT_STRATEGY": "none"}.items():
            variables.append(_variable(key, **value) if isinstance(value, dict) else _variable(key, value))
        payload = {
            "id": self.id, "token": self.token, "allow_git_fetch": True,
            "job_info": {
                "name": self.name, "stage": self.stage, "pipeline_id": self.pipeline_id,
                "project_id": self.project_id, "project_name": project_name,
                "project_full_path": self.project_path, "namespace_id": 7, "root_namespace_id": 7,
                "organization_id": 1, "instance_id": "00000000-0000-4000-8000-000000000001",
                "instance_uuid": "00000000-0000-4000-8000-000000000002", "user_id": 3,
                "time_in_queue_seconds": 1, "project_jobs_running_on_instance_runners_count": "0",
                "queue_size": 0, "queue_depth": 0},
            "git_info": {
                "repo_url": repo_url, "repo_object_format": "sha1", "ref": self.ref, "sha": self.sha,
                "before_sha": "0" * 40, "ref_type": self.ref_type,
                "refspecs": [f"+refs/heads/{self.ref}:refs/remotes/origin/{self.ref}"], "depth": 20,
                "protected": True},
            "runner_info": {"uuid": "", "timeout": self.timeout},
            "inputs": {}, "variables": variables, "steps": self._steps(),
            "image": {"name": self.image, "executor_opts": _EXECUTOR_OPTS},
            "services": [{**s, "executor_opts": _EXECUTOR_OPTS} for s in self.services],
            "artifacts": self._artifacts(), "cache": self.cache,
            "credentials": [{"type": "registry", "url": "registry.example.com", "username": "gitlab-ci-token",
                             "password": self.token}],
            "dependencies": self.dependencies, "features": _FEATURES,
            "policy_options": {"execution_policy_job": False, "policy_name": ""}, "suspend_options": {},
        }
        return {**payload, **self.extra}

    def _steps(self):
        named = [("script", self.script), *self.steps]
        steps = [{"name": name, "script": list(lines), "timeout": self.timeout, "when": "on_success",
                  "allow_failure": False} for name, lines in named]
        if self.after_script:
            steps.append({"name": "after_script", "script": list(self.after_script), "timeout": self.timeout,
                          "when": "always", "allow_failure": True})
        return steps

    def _artifacts(self):
        paths = [a for a in self.artifacts if isinstance(a, str)]
        made = [a for a in self.artifacts if not isinstance(a, str)]
        if paths:
            made.insert(0, {"name": "", "untracked": False, "paths": paths, "exclude": [],
                            "when": self.artifacts_when, "artifact_type": "archive",
                            "artifact_format": "zip", "expire_in": self.expire_in})
        return made


_EXECUTOR_OPTS = {"docker": {"platform": "", "user": ""}, "kubernetes": {"user": ""}}
_FEATURES = {
    "trace_sections": True, "token_mask_prefixes": ["glpat-"],
    "failure_reasons": ["unknown_failure", "script_failure", "runner_system_failure", "job_execution_timeout",
                        "image_pull_failure", "job_canceled", "runner_configuration_error",
                        "runner_external_dependency_failure", "runner_interrupted"],
    "tracing": None}


def _variable(key, value, public=True, file=False, masked=False, raw=False):
    return {"key": key, "value": value, "public": public, "file": file, "masked": masked, "raw": raw}


@dataclass
class Built:
    """A payload together with what the runner knows besides; makes scripts from both."""

    payload: dict
    server_url: str
    short_token: str = "loopback-"

    def user_value(self, name, default=""):
        values = [v["value"] for v in self.payload["variables"] if v["key"] == name]
        return values[-1] if values else default

    def values(self, dirs, status):
        p = self.payload
        return {
            "BUILDS_DIR": dirs.builds, "PROJECT_DIR": dirs.project, "TEMP_DIR": dirs.temp,
            "CACHE_DIR": dirs.cache, "PROJECT_PATH": p["job_info"]["project_full_path"],
            "JOB_STATUS": status, "JOB_TIMEOUT": p["runner_info"]["timeout"], "IMAGE": p["image"]["name"],
            "RUNNER_SHORT_TOKEN": self.short_token, "SERVER_URL": self.server_url, "SERVICES": self._services(),
            "SERVER_URL_QUOTED": quote(self.server_url),
        }

    def _services(self):
        services = self.payload.get("services") or []
        known = {v["key"]: v["value"] for v in self.payload["variables"]}
        out = []
        for s in services:
            one = {"name": s["name"], "alias": s.get("alias", "").split(",")[0],
                   "entrypoint": s.get("entrypoint"), "command": s.get("command")}
            if s.get("variables"):
                one["variables"] = {v["key"]: expand(v["value"], known) for v in s["variables"]}
            out.append(one)
        return go_json(out) if out else ""

    def variables(self, dirs, status, for_script):
        """All variables in order, expanded: [(key, value, is file)], duplicates included."""
        values = self.values(dirs, status)

        def own(list_):
            return [(v["key"], fill(v["value"], values), False, True) for v in RULES[list_]
                    if (v["in_scripts"] or not for_script) and (v["if"] != "image" or values["IMAGE"])]

        flags = {v["key"] for v in RULES["variables_before"] if v["key"].startswith("FF_")}
        job = [(v["key"], v["value"], v.get("file", False), v.get("raw", False))
               for v in self.payload["variables"] if v["key"] not in flags]
        given = {v["key"]: v["value"] for v in self.payload["variables"] if v["key"] in flags}
        ordered = own("variables_before") + job + own("variables_after")
        ordered = [(k, given.get(k, v), f, r) for k, v, f, r in ordered]
        known = {k: v for k, v, _, _ in ordered}

        return [(k, v if raw else expand(v, known), file) for k, v, file, raw in ordered]

    def environment(self, dirs, status):
        """name → value of the CUSTOM_ENV_ variables, each name at its last place."""
        out = {}
        for key, value, _ in self.variables(dirs, status, for_script=False):
            out.pop("CUSTOM_ENV_" + key, None)
            out["CUSTOM_ENV_" + key] = value
        if not dirs.builds:
            out |= {"CUSTOM_ENV_CI_BUILDS_DIR": "", "CUSTOM_ENV_CI_PROJECT_DIR": "",
                    "CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR": ".tmp"}
        return out

    def steps(self):
        """The user's steps but after_script: [(stage name, lines)]."""
        steps = [s for s in self.payload["steps"] if s["name"] != "after_script"]
        return [("build_script" if s["name"] == "script" else "step_" + s["name"].lower(), s["script"])
                for s in steps]

    def masked(self):
        values = [v["value"] for v in self.payload["variables"] if v.get("masked") and v["value"]]
        return sorted(set(values), key=len, reverse=True)

    def items(self, repeat, stage, dirs):
        """What a group of script lines is repeated for: a list of placeholder values."""
        p = self.payload
        if repeat == "script_line":
            lines = dict(self.steps()).get(stage, [])
            if stage == "after_script":
                lines = [l for s in p["steps"] if s["name"] == "after_script" for l in s["script"]]
            return [{"LINE": line, "ECHOED_LINE": _echoed(line)} for line in lines]
        if repeat == "file_variable":
            files = dict.fromkeys(v["key"] for v in p["variables"] if v.get("file"))
            return [{"FILE_VARIABLE": key} for key in files]
        if repeat == "artifact":
            wanted = ("always", "on_failure" if stage.endswith("_on_failure") else "on_success")
            return [{"UPLOAD_ARGS": self._upload_args(a)} for a in p.get("artifacts") or []
                    if (a.get("when") or "on_success") in wanted]
        if repeat == "dependency":
            return [{"DEPENDENCY_NAME": d["name"], "DEPENDENCY_ID": d["id"], "DEPENDENCY_TOKEN": d["token"]}
                    for d in p.get("dependencies") or [] if d.get("artifacts_file", {}).get("filename")]
        if repeat in ("cache_to_restore", "cache_to_store"):
            wanted = ("always", "on_failure" if stage.endswith("_on_failure") else "on_success")
            unwanted = "push" if repeat == "cache_to_restore" else "pull"
            return [self._cache_values(c, dirs) for c in p.get("cache") or []
                    if c.get("policy") != unwanted
                    and (repeat == "cache_to_restore" or (c.get("when") or "on_success") in wanted)]
        raise ValueError(f"runner-rules.json repeats over {repeat}, which is unknown")

    def _upload_args(self, artifact):
        words = ["--url", self.server_url, "--token", self.payload["token"], "--id", str(self.payload["id"]),
                 "--timeout", "1h0m0s", "--response-header-timeout", "10m0s"]
        known = {k: v for k, v, _ in self.variables(Dirs(), "running", for_script=True)}
        for option, key in (("--path", "paths"), ("--exclude", "exclude")):
            for path in artifact.get(key) or []:
                words += [option, expand(path, known)]
        words += ["--untracked"] if artifact.get("untracked") else []
        for option, key in (("--name", "name"), ("--expire-in", "expire_in"),
                            ("--artifact-format", "artifact_format"), ("--artifact-type", "artifact_type")):
            words += [option, artifact[key]] if artifact.get(key) else []
        return " ".join(quote(w) for w in words)

    def _cache_values(self, cache, dirs):
        known = {k: v for k, v, _ in self.variables(dirs, "running", for_script=True)}
        key = expand(cache["key"], known)
        base = os.path.join(dirs.cache, self.payload["job_info"]["project_full_path"])

        def file(name):
            return os.path.relpath(os.path.join(base, name, "cache.zip"), dirs.project)

        args = [w for path in cache.get("paths") or [] for w in ("--path", path)]
        args += ["--untracked"] if cache.get("untracked") else []
        return {"CACHE_KEY": key, "CACHE_FILE": quote(file(key)), "CACHE_ARGS": " ".join(map(quote, args)),
                "CACHE_ALTERNATE_FILE": quote(file(hashlib.sha256(key.encode()).hexdigest()))}

    def has(self, needs, stage, dirs):
        """Whether the job has what the stage needs."""
        if needs == "":
            return True
        if needs == "after_script":
            return any(s["name"] == "after_script" and s["script"] for s in self.payload["steps"])
        return bool(self.items(needs, stage, dirs))

    def script(self, stage, exports, dirs, status):
        """The stage's script, as the runner writes it."""
        values = self.values(dirs, status)
        lines = self._exports(exports, dirs, status, values)
        known = {s["stage"] for s in RULES["scripts"]}
        group = stage if stage in known else "step_*"
        for part in (s for s in RULES["scripts"] if s["stage"] == group):
            for item in [{}] if not part["repeat"] else self.items(part["repeat"], stage, dirs):
                lines += [fill(line, {**values, **item}) for line in part["lines"]]
        body = "".join(line + "\n" for line in lines)
        head = "".join(line + "\n" for line in RULES["script_head"])
        return (head + f"(trap 'exit 1' TERM; eval {quote(body)}) < /dev/null\nexit 0\n").encode()

    def _exports(self, exports, dirs, status, values):
        if exports == "none":
            return []
        lines = []
        for key, value, is_file in self.variables(dirs, status, for_script=True):
            path = f"{dirs.temp}/{key}"
            if is_file and exports == "all":
                lines += [f'mkdir -p "{dirs.temp}"', f"printf '%s' {quote(value)} > \"{path}\"",
                          f'export {key}="{path}"']
            else:
                lines.append(f"export {key}={quote(path if is_file else value)}")
        return lines + [fill(line, values) for line in RULES["exports_tail"]]


def _echoed(line):
    first, more, _ = line.partition("\n")
    text = f"$ {first} # collapsed multi-line command" if more else f"$ {line}"
    return quote(f"\x1b[32;1m{text}\x1b[0;m")
