"""A stand-in for GitLab Runner: calls a custom executor's four executables.

It replays recorded cases and plays jobs of its own, by share/runner-rules.json:
shuffled environment, a process group per call, two pipes awaited to their end,
retries, three attempts, signals, the next call by the exit code.

    with Runner(root, Driver(run=["/path/run"])) as runner:
        result = runner.play(Job(script=["make image"], artifacts=["tar_images/*.tar"]))
        assert result.state == "success"

Several plays may run at once in threads of their own.
"""

import json
import os
import pathlib
import random
import re
import selectors
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field

from gitlab import GitLab
from runner_job import RULES, Built, Dirs, Job, fill, go_json

__all__ = ["At", "Driver", "Job", "Result", "Runner", "Stuck"]

STANDIN = pathlib.Path(__file__).resolve().parent / "gitlab_runner"
TIMES = {t["name"]: t["seconds"] for t in RULES["times"]}
EXPORTS = {s["name"]: s["exports"] for s in RULES["stages"] + RULES["retry_stages"]}
GREEN, RED, CYAN, RESET = b"\x1b[32;1m", b"\x1b[31;1m", b"\x1b[36;1m", b"\x1b[0;m"


class Stuck(Exception):
    """A play took longer than max_seconds; everything of it was killed."""


@dataclass
class Driver:
    """The four executables, each with the arguments before the runner's own.

    As in config.toml: run=["/…/tidewaiter-run", "--config", "F"] is run_exec and
    run_args. All but run may be left out (None).
    """

    run: list
    config: list = None
    prepare: list = None
    cleanup: list = None


@dataclass
class At:
    """Do something while a call runs, once `after` has come out of it.

    what: an event of runner-rules.json (cancel, abort, job_timeout, script_timeout,
    interrupt, quit, runner_killed) or a callable that gets the Call.
    """

    stage: str
    what: object
    after: bytes = b""


@dataclass
class Stage:
    """One call that was made, and how it ended."""

    name: str
    exec: str
    argv: list
    attempt: int
    exit_code: int = None  # of the process: -15 for death by SIGTERM
    output: bytes = b""
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    signals: list = field(default_factory=list)
    exit_code_file: bytes = None
    job_status: str = ""
    result: str = "success"


@dataclass
class Result:
    """How a play ended. `log` is the job log as GitLab shows it, secrets masked."""

    state: str = "success"
    status: str = "success"
    failure_reason: str = None
    exit_code: int = None
    message: str = ""
    log: bytes = b""
    stages: list = field(default_factory=list)
    artifacts: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    config: dict = field(default_factory=dict)
    dirs: Dirs = field(default_factory=Dirs)
    attempts: int = 0
    tmpdir: pathlib.Path = None  # left only by runner_killed
    leftovers: list = field(default_factory=list)

    def stage(self, name):
        """The last call of that name, None if there was none."""
        found = [s for s in self.stages if s.name == name]
        return found[-1] if found else None

    @property
    def sequence(self):
        return [s.name for s in self.stages]

    @property
    def seconds(self):
        return sum(s.seconds for s in self.stages)


@dataclass
class Failure:
    """Why a call, and with it perhaps the job, failed."""

    reason: str
    exit_code: int = None
    message: str = ""


class Call:
    """A running executable. Hooks get one; it may be used from any thread."""

    def __init__(self, play, stage, argv, cwd, env):
        self.play = play
        self.stage = stage
        self.name = stage.name
        self._output = threading.Condition()
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._signals = []
        self._lock = threading.Lock()
        self._over = False
        self.started = time.monotonic()
        self.process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)
        self.pid = self.process.pid

    def wait_output(self, pattern, timeout=30):
        """Waits until pattern (bytes) came out; False if it does not in time."""
        with self._output:
            return self._output.wait_for(lambda: pattern in self.stage.output, timeout)

    def event(self, name):
        self.play.event(name)

    def cancel(self):
        self.play.event("cancel")

    def signal_group(self, number):
        """What the runner does to a driver: a signal to its process group."""
        with self._lock:
            if self._over:
                return
            self._signals.append(number)
            try:
                os.write(self._wake_w, b"x")
            except BlockingIOError:
                pass

    def abandon(self):
        """As if the runner had died: pipes broken, nobody waits."""
        self.signal_group(None)

    def wait(self, limit_s, deadline):
        """Until the process is gone and both pipes are at their end.

        After limit_s (None: none) SIGTERM. False: the wait was given up, by the
        runner's own rules or because it was abandoned.
        """
        out, err = self.process.stdout, self.process.stderr
        pidfd = os.pidfd_open(self.pid)
        timers = {"limit": time.monotonic() + limit_s} if limit_s else {}
        try:
            with selectors.DefaultSelector() as selector:
                for source, tag in ((out, "stdout"), (err, "stderr"), (pidfd, "exit"), (self._wake_r, "wake")):
                    selector.register(source, selectors.EVENT_READ, tag)
                left = {"stdout", "stderr", "exit"}
                while left:
                    now = time.monotonic()
                    if now >= deadline:
                        self._kill(signal.SIGKILL)
                        raise Stuck(f"{self.name} still ran at the end of max_seconds: "
                                    f"{self.stage.output[-2000:]!r}")
                    due = [name for name, when in timers.items() if when <= now]
                    if "give_up" in due:
                        return False
                    for name in due:
                        del timers[name]
                        self._begin(name, timers)
                    wait_s = min([deadline, *timers.values()]) - now
                    for key, _ in selector.select(max(0.0, wait_s)):
                        if key.data == "wake" and not self._take_signals(timers):
                            return False
                        if key.data == "exit":
                            selector.unregister(pidfd)
                            left.discard("exit")
                        if key.data in ("stdout", "stderr") and not self._read(key):
                            selector.unregister(key.fileobj)
                            left.discard(key.data)
            return True
        finally:
            os.close(pidfd)
            out.close()
            err.close()
            self._finish()

    def _begin(self, timer, timers):
        if timer == "limit":
            self._send(signal.SIGTERM, timers)
        elif timer == "kill":
            self._send(signal.SIGKILL, timers)
            timers["give_up"] = time.monotonic() + self.play.runner.force_kill_s

    def _take_signals(self, timers):
        """Sends what was asked for; False if the call was abandoned."""
        try:
            os.read(self._wake_r, 100)
        except BlockingIOError:
            pass
        with self._lock:
            asked, self._signals = self._signals, []
        for number in asked:
            if number is None:
                return False
            self._send(number, timers)
        return True

    def _send(self, number, timers):
        self.stage.signals.append(signal.Signals(number).name)
        self._kill(number)
        if number == signal.SIGTERM:
            timers.setdefault("kill", time.monotonic() + self.play.runner.graceful_kill_s)

    def _kill(self, number):
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def _read(self, key):
        data = os.read(key.fileobj.fileno(), 65536)
        if not data:
            return False
        with self._output:
            setattr(self.stage, key.data, getattr(self.stage, key.data) + data)
            self.stage.output += data
            self._output.notify_all()
        self.play.came_out(self)
        return True

    def _finish(self):
        self.stage.seconds = time.monotonic() - self.started
        code = self.process.poll()
        self.stage.exit_code = code
        with self._output:
            self._output.notify_all()
        with self._lock:
            self._over = True
            os.close(self._wake_r)
            os.close(self._wake_w)


class Runner:
    """Plays jobs on a driver. `root` holds builds, cache, TMPDIRs, GitLab's files.

    path: the runner's PATH; a directory with the stand-in for gitlab-runner goes
    before it unless gitlab_runner is False. env: more of the runner's own
    environment. pauses: factor for the runner's waits between attempts (0: none).
    max_seconds: no play takes longer, Stuck is raised. seed: of the shuffling.
    """

    def __init__(self, root, driver, *, path=None, env=None, builds_dir=None, cache_dir=None,
                 gitlab_runner=True, pauses=0.0, max_seconds=120, seed=None, graceful_kill_s=None,
                 force_kill_s=None, exec_timeout_s=None):
        self.root = pathlib.Path(root)
        self.driver = driver
        self.builds_dir = str(builds_dir or self.root / "builds")
        self.cache_dir = str(cache_dir or self.root / "cache")
        self.pauses = pauses
        self.max_seconds = max_seconds
        self.graceful_kill_s = TIMES["graceful_kill"] if graceful_kill_s is None else graceful_kill_s
        self.force_kill_s = TIMES["force_kill"] if force_kill_s is None else force_kill_s
        self.exec_timeout_s = exec_timeout_s
        self.random = random.Random(seed)
        self.home = self.root / "home"
        self.tmp = self.root / "tmp"
        self.bin = self.root / "bin"
        for made in (self.home, self.tmp, self.bin, pathlib.Path(self.builds_dir),
                     pathlib.Path(self.cache_dir)):
            made.mkdir(parents=True, exist_ok=True)
        self.gitlab = GitLab(self.root / "gitlab")
        path = path or os.environ.get("PATH", "/usr/bin:/bin")
        if gitlab_runner:
            self._install_gitlab_runner()
            path = f"{self.bin}:{path}"
        self.env = {"PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8", "USER": "runner", **(env or {})}
        self._n = 0
        self._lock = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.gitlab.close()

    def _install_gitlab_runner(self):
        target = self.bin / "gitlab-runner"
        shutil.copyfile(STANDIN, target)
        target.chmod(0o755)
        pathlib.Path(f"{target}.json").write_text(json.dumps({"calls": self.gitlab.url + "/standin/calls"}))

    def concurrent_number(self):
        with self._lock:
            self._n += 1
            return self._n - 1

    def play(self, job, *, on_stage=None, at=(), driver=None, max_seconds=None):
        """Runs a Job to its end. on_stage(name, call) is called in a thread of its
        own as each call starts; at: a list of At."""
        payload = job.payload(self.gitlab.url)
        built = Built(payload, self.gitlab.url)
        play = Play(self, driver or self.driver, built, go_json(payload).encode(), _Generated(built),
                    project=job.project, on_stage=on_stage, at=at, max_seconds=max_seconds)
        return play.run()

    def replay(self, case_dir, *, image_tar=None, on_stage=None, at=(), driver=None, faults=True,
               max_seconds=None):
        """Replays a recorded case.

        faults: a get_sources that was recorded as failed gets a script that fails,
        and a recorded signal is sent when the script has begun to print.
        """
        recorded = _Recorded(self, pathlib.Path(case_dir), image_tar, faults)
        play = Play(self, driver or self.driver, recorded.built, recorded.response, recorded,
                    on_stage=on_stage, at=[*at, *(recorded.events() if faults else [])],
                    max_seconds=max_seconds)
        return play.run()


class _Generated:
    """Scripts and environment of a job that was not recorded."""

    def __init__(self, built):
        self.built = built

    def script(self, stage, dirs, status):
        return self.built.script(stage, EXPORTS.get(stage, "all"), dirs, status)

    def environment(self, dirs, status):
        return self.built.environment(dirs, status)


class _Recorded(_Generated):
    """The same out of a recorded case; a script that was not recorded is generated."""

    def __init__(self, runner, case, image_tar, faults):
        self.case = case
        self.calls = [json.loads(line) for line in (case / "calls.jsonl").read_text().splitlines()]
        self.failing = [c for c in self.calls if faults and c["exec"] == "run"
                        and c["argv"][1] == "get_sources" and c["exit_code"] != 0]
        gitlab = runner.gitlab
        self.placeholders = {
            "@SERVER_HOST@": gitlab.host, "@SERVER_PORT@": str(gitlab.port), "@HOME@": str(runner.home),
            "@PATH@": runner.env["PATH"], "@CORRELATION_ID@": "0123456789abcdef" * 2,
            "@IMAGE_TAR@": str(image_tar or runner.root / "image.tar")}
        sha = self._raw("response.json")["git_info"]["sha"]
        token = self._raw("response.json")["token"]
        if case.name == "clone":
            project = self._raw("response.json")["job_info"]["project_full_path"]
            made = gitlab.add_repository(project, {"README.md": "A repository\n"}, token)
            self.placeholders |= {sha: made, sha[:8]: made[:8]}
        for dependency in self._raw("response.json")["dependencies"]:
            gitlab.add_archive(dependency["id"], dependency["token"], {"out/from_build.txt": "from build\n"})
        self.response = self._fill((case / "response.json").read_text()).encode()
        super().__init__(Built(json.loads(self.response), gitlab.url))
        self.env = {k: self._fill(v) for k, v in json.loads((case / "env.json").read_text()).items()
                    if k.startswith("CUSTOM_ENV_")}
        order = [f"CUSTOM_ENV_{v['key']}" for v in self.built.payload["variables"]]
        self.env = dict(sorted(self.env.items(), key=lambda kv: _last_index(order, kv[0])))

    def _raw(self, name):
        return json.loads((self.case / name).read_text())

    def _fill(self, text):
        for placeholder, value in self.placeholders.items():
            text = text.replace(placeholder, value)
        return text

    def events(self):
        """The signals that were recorded, as events."""
        return [At(c["argv"][1] if c["exec"] == "run" else c["exec"], "cancel", after=b"tick")
                for c in self.calls if c.get("signals")]

    def environment(self, dirs, status):
        own = {k: v for k, v in super().environment(dirs, status).items()
               if k in ("CUSTOM_ENV_CI_BUILDS_DIR", "CUSTOM_ENV_CI_PROJECT_DIR",
                        "CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR", "CUSTOM_ENV_CI_JOB_STATUS")}
        return {**self.env, **own}

    def script(self, stage, dirs, status):
        if stage == "get_sources" and self.failing:
            self.failing.pop()
            return b"#!/usr/bin/env bash\n\nexit 1\n"
        path = self.case / f"{stage}.sh"
        if not path.exists():
            return super().script(stage, dirs, status)
        project = self.built.payload["job_info"]["project_full_path"]
        text = path.read_text().replace(f"@BUILDS_DIR@/{project}", dirs.project)
        text = text.replace("@BUILDS_DIR@", dirs.builds).replace("@CACHE_DIR@", dirs.cache)
        text = text.replace("../../../cache/", os.path.relpath(dirs.cache, dirs.project) + "/")
        text = re.sub(r"(export CI_JOB_STATUS=)\w+", rf"\g<1>{status}", text, count=1)
        return self._fill(text).encode()


def _last_index(order, name):
    return len(order) - 1 - order[::-1].index(name) if name in order else -1


class Play:
    """One job on its way. event() may be called from any thread."""

    def __init__(self, runner, driver, built, response, source, *, project=None, on_stage=None, at=(),
                 max_seconds=None):
        self.runner, self.driver, self.built, self.source = runner, driver, built, source
        self.response, self.project = response, project or {}
        self.on_stage, self.at = on_stage, list(at)
        self.result = Result(status="success")
        self.deadline = time.monotonic() + (max_seconds or runner.max_seconds)
        self.random = random.Random(runner.random.random())
        self.lock = threading.RLock()
        self.phase = "before_script"
        self.job_status = "running"
        self.call = None
        self.interrupted = None  # the event that ended the script or the job
        self.stop = None  # None, "cleanup" or "vanish"
        self.dirs = Dirs()
        self.job_env = {}
        self.log = []
        self.script_timer = None
        self.hook_errors = []

    # What happens from outside.

    def event(self, name):
        with self.lock:
            rule = next((e for e in RULES["events"] if e["event"] == name
                         and e["during"] in ("any", self.phase)), None)
            if rule is None or self.stop == "vanish" or self.phase == "over":
                return
            if rule["then"] == "vanish":
                self.stop = "vanish"
            elif rule["failure_reason"]:
                self.interrupted = rule
                if rule["then"] == "cleanup":
                    self.stop = "cleanup"
            if name == "abort":
                self.runner.gitlab.refuse_job(self.built.payload["id"])
            if self.call and rule["then"] == "vanish":
                self.call.abandon()
            elif self.call and rule["signal"]:
                self.call.signal_group(signal.Signals[rule["signal"]])

    def came_out(self, call):
        for at in [a for a in self.at if a.stage == call.name and a.after in call.stage.output]:
            self.at.remove(at)
            if callable(at.what):
                self._hook(lambda at=at: at.what(call))
            else:
                self.event(at.what)

    def _hook(self, function):
        def guarded():
            try:
                function()
            except BaseException as error:  # reported by run()
                self.hook_errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    # The job.

    def run(self):
        self.runner.gitlab.add_job(self.built.payload["id"], self.built.payload["token"])
        job_timer = threading.Timer(self.built.payload["runner_info"]["timeout"], self.event, ["job_timeout"])
        job_timer.daemon = True
        job_timer.start()
        self._say(b"Running with gitlab-runner %s (HEAD)\n  on fake %s\n"
                  % (RULES["runner_version"].encode(), self.built.short_token.encode()))
        failure = None
        try:
            for attempt in range(1, RULES["attempts_max"] + 1):
                self.result.attempts = attempt
                failure, again = self._attempt(attempt)
                if self.stop == "vanish":
                    self.result.state = self.result.status = "lost"
                    return self.result
                if not again or self.stop:
                    break
                self._sleep(TIMES["attempt_pause"])
        finally:
            job_timer.cancel()
            self.phase = "over"
        if self.hook_errors:
            raise self.hook_errors[0]
        return self._end(failure)

    def _end(self, failure):
        result = self.result
        if self.interrupted:
            failure = Failure(self.interrupted["failure_reason"], None, self.interrupted["event"])
        if failure:
            result.state = result.status = "failed"
            result.failure_reason, result.exit_code = failure.reason, failure.exit_code
            result.message = failure.message
            kind = b" (system failure)" if failure.reason == "runner_system_failure" else b""
            self._say(RED + b"ERROR: Job failed" + kind + b": " + failure.message.encode() + RESET + b"\n")
        else:
            self._say(GREEN + b"Job succeeded" + RESET + b"\n")
        if result.failure_reason == "job_canceled":
            result.status = "canceled"
        job = str(self.built.payload["id"])
        result.artifacts = self.runner.gitlab.artifacts(job)
        with self.runner.gitlab.lock:
            result.calls = list(self.runner.gitlab.calls)
        result.dirs = self.dirs
        log = b"".join(self.log)
        for secret in self.built.masked():
            log = log.replace(secret.encode(), b"[MASKED]")
        result.log = re.sub(rb"\b(glpat-|glrt-|glcbt-)[\w-]+", rb"\1[MASKED]", log)
        return result

    def _attempt(self, attempt):
        """(failure or None, whether another attempt is to follow)."""
        self.tmpdir = pathlib.Path(tempfile.mkdtemp(prefix="custom-executor", dir=self.runner.tmp))
        _write(self.tmpdir / "response.json", self.response, 0o600)
        try:
            failure, again = self._phases(attempt)
            if self.stop != "vanish" and self.driver.cleanup:
                self.phase = "after_script"
                self._execute("cleanup", "cleanup", self.driver.cleanup, attempt)
        finally:
            if self.stop == "vanish":
                self.result.tmpdir = self.tmpdir
            else:
                self.result.leftovers += sorted(
                    p.name for p in self.tmpdir.iterdir() if not p.name.startswith("script"))
                shutil.rmtree(self.tmpdir)
        return failure, again

    def _phases(self, attempt):
        for name in ("config", "prepare"):
            failure = None
            if name == "config":
                self._open_section("prepare_executor", 'Preparing the "custom" executor')
            if getattr(self.driver, name):
                stage, failure = self._execute(name, name, getattr(self.driver, name), attempt)
                if name == "config" and not failure:
                    failure = self._take_config(stage.stdout)
            elif name == "config":
                failure = self._take_config(b"")
            if name == "prepare" or failure:
                self._close_section("prepare_executor")
            if self.stop:
                return None, False
            if failure:
                again = failure.reason == "runner_system_failure"
                if again:
                    self._say(RED + b"ERROR: Preparation failed: " + failure.message.encode() + RESET + b"\n")
                return failure, again
        return self._stages(attempt), False

    def _take_config(self, text):
        """Reads what config printed; a Failure if it is not what may be printed."""
        try:
            config = parse_config(text)
        except ValueError as error:
            return Failure("runner_system_failure", None, f"config: {error}")
        self.result.config = config
        if config.get("builds_dir") == "":
            return Failure("runner_configuration_error", None, "the builds_dir is not configured")
        payload = self.built.payload
        builds = config.get("builds_dir") or self.runner.builds_dir
        project = payload["job_info"]["project_full_path"]
        if config.get("builds_dir_is_shared"):
            number = str(self.runner.concurrent_number())
            project = os.path.join(self.built.short_token, number, project)
        self.dirs = Dirs(builds, config.get("cache_dir") or self.runner.cache_dir, os.path.join(builds, project))
        self.job_env = config.get("job_env") or {}
        driver = config.get("driver") or {}
        name = " ".join(driver[k] for k in ("name", "version") if driver.get(k))
        self._say(f"Using Custom executor{' with driver ' + name if name else ''}...\n".encode())
        return None

    def _stages(self, attempt):
        """Runs the stages in their order; the job's failure or None."""
        failure, later, good, script_started = None, None, True, False
        for rule in RULES["stages"]:
            if rule["needs"] == "script" and good and not self.stop:
                script_started = True
                self.phase = "script"
                self.script_timer = self._script_timer()
            if rule["runs_if"] == "script_started":
                self._script_over(failure, script_started)
            runs = {"always": True, "good": good, "bad": not good, "script_started": script_started}
            for name in self._names(rule) if runs[rule["runs_if"]] else []:
                if self.stop:
                    return failure
                error = self._run_stage(rule, name, attempt)
                if self.phase == "script" and self.interrupted:
                    good = False
                    break
                if error and rule["on_failure"] == "cleanup":
                    return error
                if error and rule["on_failure"] == "bad":
                    failure, good = error, False
                    break
                if error and rule["on_failure"] == "fail":
                    later = later or error
        return failure or later

    def _names(self, rule):
        """The stages that a rule stands for in this job."""
        if rule["needs"] in ("script", "steps"):
            return [n for n, _ in self.built.steps() if (n == "build_script") == (rule["needs"] == "script")]
        return [rule["name"]] if self.built.has(rule["needs"], rule["name"], self.dirs) else []

    def _script_timer(self):
        seconds = duration_s(self.built.user_value("RUNNER_SCRIPT_TIMEOUT"))
        if not seconds:
            return None
        timer = threading.Timer(seconds, self.event, ["script_timeout"])
        timer.daemon = True
        timer.start()
        return timer

    def _script_over(self, failure, script_started):
        if self.script_timer:
            self.script_timer.cancel()
        with self.lock:
            self.phase = "after_script"
            if not script_started:
                return
            self.job_status = "failed" if failure else "success"
            if self.interrupted:
                self.job_status = self.interrupted["job_status"]

    def _run_stage(self, rule, name, attempt):
        """One stage with its retries; a Failure or None."""
        tries = 1
        if rule["attempts_variable"]:
            text = self.built.user_value(rule["attempts_variable"], "1")
            tries = int(text) if text.isdigit() else 0
            if not 1 <= tries <= RULES["stage_attempts_max"]:
                return Failure("runner_system_failure", None, f"number of attempts out of the range: {name}")
        error = None
        for n in range(tries):
            if n == 1 and rule["before_retry"]:
                retry = next(s for s in RULES["retry_stages"] if s["name"] == rule["before_retry"])
                error = self._run_script(retry, retry["name"], attempt)
                if error:
                    continue
            error = self._run_script(rule, name, attempt)
            if not error or self.stop:
                break
            if n + 1 < tries:
                self._sleep(TIMES["stage_retry_first" if n == 0 else "stage_retry_next"])
        if not error and name == "get_sources":
            self._fill_project()
        return error

    def _run_script(self, rule, name, attempt):
        section = rule["section"].replace("step_*", name)
        title = rule["title"].replace("step_*", name)
        self._open_section(section, title)
        directory = pathlib.Path(tempfile.mkdtemp(prefix="script", dir=self.tmpdir))
        script = directory / "script"
        _write(script, self.source.script(name, self.dirs, self.job_status), 0o700)
        limit = None
        if name == "after_script":
            limit = duration_s(self.built.user_value("RUNNER_AFTER_SCRIPT_TIMEOUT")) or TIMES["after_script"]
        _, failure = self._execute("run", name, [*self.driver.run, str(script), name], attempt, limit)
        self._close_section(section)
        return failure

    def _fill_project(self):
        """The project's files, as if get_sources had brought them: its owner's."""
        base = pathlib.Path(self.dirs.project)
        if not self.project:
            return
        owner = base.stat()
        for name, content in self.project.items():
            path = base / name
            missing = [p for p in path.parents if not p.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, pathlib.Path):
                shutil.copyfile(content, path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            if os.geteuid() == 0:
                for made in [path, *missing]:
                    os.chown(made, owner.st_uid, owner.st_gid)

    # One call.

    def _execute(self, exec_, name, argv, attempt, limit_s=None):
        """(Stage, Failure or None) of one call."""
        stage = Stage(name, exec_, list(argv), attempt, job_status=self.job_status)
        self.result.stages.append(stage)
        if limit_s is None:
            seconds = next(p["timeout_s"] for p in RULES["phases"] if p["exec"] == exec_)
            limit_s = (self.runner.exec_timeout_s or seconds) if seconds else None
        try:
            with self.lock:
                call = Call(self, stage, argv, self.tmpdir, self._environment(exec_))
                self.call = call
        except OSError as error:
            stage.result = "failed"
            return stage, Failure("runner_system_failure", None, f"{exec_}: {error}")
        hook = self._hook(lambda: self.on_stage(name, call)) if self.on_stage else None
        self.came_out(call)
        try:
            finished = call.wait(limit_s, self.deadline)
        finally:
            with self.lock:
                self.call = None
        if hook:
            hook.join(max(0.0, self.deadline - time.monotonic()))
        if exec_ != "cleanup":
            self._say(stage.stderr if exec_ == "config" else stage.output)
        file = self.tmpdir / "build_exit_code"
        stage.exit_code_file = file.read_bytes() if file.exists() else None
        failure = self._judge(stage, finished)
        stage.result = "failed" if failure else "success"
        return stage, failure

    def _judge(self, stage, finished):
        if not finished:
            return Failure("runner_system_failure", None, f"{stage.name}: process could not be stopped")
        rule = next((r for r in RULES["exit_codes"] if r["code"] == stage.exit_code), RULES["exit_codes"][-1])
        if rule["state"] == "success":
            return None
        if not rule["reads_exit_code_file"]:
            known = rule["code"] == stage.exit_code
            text = "" if known else "unknown Custom executor executable exit code "
            return Failure(rule["failure_reason"], None, f"{text}{stage.exit_code}")
        try:
            code = parse_exit_code(stage.exit_code_file)
        except ValueError as error:
            return Failure("runner_system_failure", None, str(error))
        return Failure(rule["failure_reason"], code or None, f"exit status {code}")

    def _environment(self, exec_):
        own = list(self.runner.env.items())
        five = [(e["name"], fill(e["value"], {"TMPDIR": str(self.tmpdir)})) for e in RULES["environment"]]
        job_env = list(self.job_env.items()) if exec_ != "config" else []
        custom = self.source.environment(self.dirs, self.job_status)
        self.random.shuffle(five)
        self.random.shuffle(job_env)
        env = {}
        for key, value in [*own, *five, *job_env, *custom.items()]:
            env.pop(key, None)
            env[key] = value
        return env

    def _sleep(self, seconds):
        end = min(self.deadline, time.monotonic() + seconds * self.runner.pauses)
        while not self.stop and time.monotonic() < end:
            time.sleep(min(0.05, end - time.monotonic()))

    # The log.

    def _say(self, data):
        self.log.append(data)

    def _open_section(self, name, title):
        self._say(b"\x1b[0Ksection_start:%d:%s\r\x1b[0K%s%s%s\n"
                  % (time.time(), name.encode(), CYAN, title.encode(), RESET))

    def _close_section(self, name):
        self._say(b"\x1b[0Ksection_end:%d:%s\r\x1b[0K\n" % (time.time(), name.encode()))


def _write(path, data, mode):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def duration_s(text):
    """A Go duration such as 1h30m or 500ms in seconds; 0 for none."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    parts = re.findall(r"([0-9.]+)(ms|[hms])", text or "")
    return sum(float(n) * units[u] for n, u in parts)


def parse_exit_code(data):
    """The number in BUILD_EXIT_CODE_FILE (None: no file, 1)."""
    if data is None:
        return 1
    line = data.split(b"\n")[0].removesuffix(b"\r")
    if not re.fullmatch(rb"[+-]?[0-9]+", line):
        raise ValueError(f"invalid build exit code {line!r}")
    return int(line)


_CONFIG_TYPES = {"builds_dir": str, "cache_dir": str, "builds_dir_is_shared": bool, "hostname": str,
                 "shell": str, "driver": dict, "job_env": dict}


def parse_config(text):
    """What config printed, as a dict without nulls; ValueError for what the runner refuses."""
    if not text.strip():
        return {}
    value = json.loads(text.decode())
    if not isinstance(value, dict):
        raise ValueError("not an object")
    value = {k: v for k, v in value.items() if v is not None}
    for key, type_ in _CONFIG_TYPES.items():
        if key in value and not isinstance(value[key], type_):
            raise ValueError(f"{key}: wrong type")
    for key, name in [("driver", k) for k in ("name", "version")]:
        if not isinstance((value.get(key) or {}).get(name, ""), str):
            raise ValueError(f"{key}.{name}: wrong type")
    for key, item in (value.get("job_env") or {}).items():
        if not isinstance(item, str):
            raise ValueError(f"job_env.{key}: not a string")
    return value
