"""What the stand-in DefectDojo keeps, and how an upload changes it: matching, closing, duplicates, statistics, triage.

Everything here is under `Store.lock`, one row at a time: as in the real one an upload is no transaction. It takes its
picture of the test at the start, writes finding by finding, and writes its Test_Import row last.
"""

import copy
import datetime
import hashlib
import json
import os
import threading

SEVERITIES = ("Info", "Low", "Medium", "High", "Critical")
NUMERICAL = {"Critical": "S0", "High": "S1", "Medium": "S2", "Low": "S3", "Info": "S4"}
COUNTED = ("active", "verified", "duplicate", "false_p", "out_of_scope", "is_mitigated", "risk_accepted")
HASH_FIELDS = ("title", "severity", "vulnerability_ids", "cwe", "description")
TABLES = ("product_types", "products", "engagements", "environments", "tests", "findings", "imports", "acceptances")
FINDING_MAX = {"component_version": 100, "component_name": 500, "file_path": 4000, "service": 200}
TEST_MAX = {"version": 100, "branch_tag": 150, "commit_hash": 150, "build_id": 150, "title": 255}
VULNERABILITY_ID_MAX = 50
TEST_TYPE_TRIVY = 99


class ServerError(Exception):
    """What the real one answers with 500 and JSON: an error of its database or its parser."""


class Died(Exception):
    """The application was killed in the middle of this upload."""


class Refusal(Exception):
    """400 with a `message` body."""


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


class Store:
    def __init__(self, path=None, deduplication=True, hash_code_fields=HASH_FIELDS, write_order="severity"):
        self.lock = threading.RLock()
        self.deduplication = deduplication
        self.hash_code_fields = list(hash_code_fields)
        self.write_order = write_order
        self.ahead_s = 0
        self.worker = True
        self.pending = []
        self._by_hash = {}
        self.tables = {name: {} for name in TABLES}
        self._next = {name: 1 for name in TABLES}
        self._next["actions"] = 1
        self._journal = None
        if path is not None:
            self._open(path)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def now(self):
        at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.ahead_s)
        return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _open(self, path):
        """The state file has one JSON line per change; starting compacts it. A line cut by a kill is left out."""
        if os.path.exists(path):
            with open(path, "rb") as f:
                for line in f.read().split(b"\n")[:-1]:
                    change = json.loads(line)
                    self._remember(change["table"], change["row"])
        with open(path + ".new", "wb") as f:
            for name in TABLES:
                for row in self.tables[name].values():
                    f.write(self._line(name, row))
            f.flush()
            os.fsync(f.fileno())
        os.rename(path + ".new", path)
        self._journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    @staticmethod
    def _line(table, row):
        return json.dumps({"table": table, "row": row}).encode() + b"\n"

    def _remember(self, table, row):
        self.tables[table][row["id"]] = row
        self._next[table] = max(self._next[table], row["id"] + 1)
        if table == "findings":
            self._by_hash.setdefault(row["hash_code"], {})[row["id"]] = None
        for action in row.get("actions", ()):
            self._next["actions"] = max(self._next["actions"], action["id"] + 1)

    def close(self):
        with self.lock:
            if self._journal is not None:
                os.close(self._journal)
                self._journal = None

    def next_id(self, table, value=None):
        with self.lock:
            if value is not None:
                self._next[table] = value
                return value
            value = self._next[table]
            self._next[table] += 1
            return value

    def save(self, table, row):
        with self.lock:
            row["updated"] = self.now()
            self._remember(table, row)
            if self._journal is not None:
                os.write(self._journal, self._line(table, row))
            return row

    def add(self, table, row):
        with self.lock:
            return self.save(table, {"id": row.pop("id", None) or self.next_id(table), "created": self.now(), **row})

    def get(self, table, row_id):
        with self.lock:
            return self.tables[table].get(row_id)

    def rows(self, table, **wanted):
        with self.lock:
            return [r for r in self.tables[table].values() if all(r.get(k) == v for k, v in wanted.items())]

    def last(self, table, **wanted):
        found = self.rows(table, **wanted)
        return max(found, key=lambda r: r["id"]) if found else None

    # -- what hangs on what -------------------------------------------------------------------------------------------

    def engagement_of(self, test):
        return self.tables["engagements"][test["engagement"]]

    def product_of(self, row):
        if "test" in row:
            row = self.tables["tests"][row["test"]]
        if "engagement" in row:
            row = self.engagement_of(row)
        return self.tables["products"][row["product"]] if "product" in row else row

    def may(self, user, row):
        """Membership of the product or of its type; staff may everything."""
        if user["is_staff"]:
            return True
        if "prod_type" not in row and "authorized_users" in row:
            return user["id"] in row["authorized_users"]
        product = self.product_of(row)
        product_type = self.tables["product_types"][product["prod_type"]]
        return user["id"] in product["authorized_users"] + product_type["authorized_users"]

    # -- making things ------------------------------------------------------------------------------------------------

    def add_product_type(self, name, authorized_users=(), **fields):
        return self.add("product_types", {"name": name, "authorized_users": list(authorized_users), **fields})

    def add_product(self, name, prod_type, authorized_users=(), **fields):
        with self.lock:
            if len(name) > 255:
                raise Refusal(f"{{'name': ['Ensure this value has at most 255 characters (it has {len(name)}).']}}")
            if self.rows("products", name=name):
                raise Refusal("{'name': ['Product with this Name already exists.']}")
            row = {"name": name, "prod_type": prod_type, "authorized_users": list(authorized_users), **fields}
            return self.add("products", row)

    def add_engagement(self, name, product, **fields):
        if len(name) > 300:
            raise Refusal(f"{{'name': ['Ensure this value has at most 300 characters (it has {len(name)}).']}}")
        row = {
            "name": name,
            "product": product,
            "status": "In Progress",
            "active": True,
            "deduplication_on_engagement": False,
            "lead": None,
            "source_code_management_uri": None,
            "tags": [],
            "target_end": (datetime.date.today() + datetime.timedelta(days=365)).isoformat(),
            **fields,
        }
        return self.add("engagements", row)

    def add_test(self, title, engagement, **fields):
        row = {
            "title": title,
            "engagement": engagement,
            "environment": 1,
            "scan_type": "Trivy Scan",
            "version": "",
            "build_id": "",
            "commit_hash": "",
            "branch_tag": "",
            "lead": None,
            "tags": [],
            **fields,
        }
        check_lengths(row, TEST_MAX)
        return self.add("tests", row)

    def hash_code(self, finding):
        parts = []
        for field in self.hash_code_fields:
            value = finding.get(field)
            parts.append("".join(sorted(value)) if isinstance(value, list) else str(value))
        text = "".join(parts) + (finding.get("service") or "")
        return hashlib.sha256(text.strip().casefold().encode("utf-8", "surrogatepass")).hexdigest()

    def add_finding(self, test, fields):
        row = {
            "false_p": False,
            "out_of_scope": False,
            "risk_accepted": False,
            "duplicate": False,
            "duplicate_finding": None,
            "date": today(),
            "mitigated": None,
            **copy.deepcopy(fields),
            "test": test,
        }
        check_lengths(row, FINDING_MAX)
        if any(len(v) > VULNERABILITY_ID_MAX for v in row["vulnerability_ids"]):
            raise ServerError("value too long for type character varying(50)")
        if row["is_mitigated"]:
            row["mitigated"] = self.now()
        row["hash_code"] = self.hash_code(row)
        return self.add("findings", row)

    # -- statistics ---------------------------------------------------------------------------------------------------

    def statistics(self, findings):
        table = {s.lower(): dict.fromkeys(COUNTED + ("total",), 0) for s in SEVERITIES + ("Total",)}
        for finding in findings:
            for bucket in (table[finding["severity"].lower()], table["total"]):
                bucket["total"] += 1
                for key in COUNTED:
                    bucket[key] += bool(finding[key])
        return table

    def test_statistics(self, test):
        with self.lock:
            return self.statistics(self.rows("findings", test=test))

    # -- duplicates ---------------------------------------------------------------------------------------------------

    def deduplicate(self, ids):
        if not self.deduplication:
            return
        with self.lock:
            for finding in sorted((self.tables["findings"][i] for i in ids), key=lambda f: f["id"]):
                original = self._original_of(finding)
                if original is not None and not finding["duplicate"]:
                    finding.update(duplicate=True, active=False, verified=False, duplicate_finding=original["id"])
                    self.save("findings", finding)

    def _original_of(self, finding):
        """The oldest finding of the same scope with this hash. One that was closed and came back starts anew."""
        engagement = self.engagement_of(self.tables["tests"][finding["test"]])
        for other_id in sorted(self._by_hash.get(finding["hash_code"], ())):
            other = self.tables["findings"][other_id]
            if other["id"] >= finding["id"] or other["duplicate"]:
                continue
            theirs = self.engagement_of(self.tables["tests"][other["test"]])
            if theirs["product"] != engagement["product"]:
                continue
            own_scope = engagement["deduplication_on_engagement"] or theirs["deduplication_on_engagement"]
            if own_scope and theirs["id"] != engagement["id"]:
                continue
            closed = not other["active"] and other["is_mitigated"]
            by_hand = other["false_p"] or other["out_of_scope"]
            if closed and not by_hand and not finding["is_mitigated"]:
                continue
            return other
        return None

    def post_process(self, ids):
        """The background worker's part; without a worker it waits until there is one."""
        with self.lock:
            self.pending.append(list(ids))
            if self.worker:
                self.drain()

    def drain(self):
        with self.lock:
            for ids in self.pending:
                self.deduplicate(ids)
            self.pending.clear()

    # -- triage -------------------------------------------------------------------------------------------------------

    def change_finding(self, finding, changes):
        """Fields set through the API, with what the real one lets follow from them. The hash stays as it was."""
        with self.lock:
            before = {k: finding[k] for k in COUNTED}
            finding.update(changes)
            if finding["active"] and not before["active"]:
                finding.update(false_p=False, out_of_scope=False, is_mitigated=False)
            excused = (finding["false_p"], finding["out_of_scope"]) != (before["false_p"], before["out_of_scope"])
            if excused and (finding["false_p"] or finding["out_of_scope"]):
                finding.update(is_mitigated=True, active=False, verified=False)
            if finding["is_mitigated"] and not before["is_mitigated"]:
                finding["active"] = False
            finding["mitigated"] = (finding["mitigated"] or self.now()) if finding["is_mitigated"] else None
            return self.save("findings", finding)

    def accept(self, fields):
        with self.lock:
            acceptance = self.add("acceptances", fields)
            for finding_id in acceptance["accepted_findings"]:
                finding = self.tables["findings"][finding_id]
                finding.update(risk_accepted=True, active=False)
                self.save("findings", finding)
            return acceptance

    def unaccept(self, finding, active):
        with self.lock:
            for acceptance in self.rows("acceptances"):
                if finding["id"] in acceptance["accepted_findings"]:
                    acceptance["accepted_findings"].remove(finding["id"])
                    self.save("acceptances", acceptance)
            finding.update(risk_accepted=False, active=active)
            self.save("findings", finding)

    def expire(self, acceptance_id):
        with self.lock:
            acceptance = self.tables["acceptances"][acceptance_id]
            for finding_id in list(acceptance["accepted_findings"]):
                self.unaccept(self.tables["findings"][finding_id], active=True)
            acceptance["expiration_date_handled"] = self.now()
            self.save("acceptances", acceptance)

    def mitigate(self, finding):
        with self.lock:
            if finding["risk_accepted"]:
                self.unaccept(finding, active=False)
            finding.update(is_mitigated=True, active=False, mitigated=self.now())
            self.save("findings", finding)


def check_lengths(row, limits):
    for key, limit in limits.items():
        if isinstance(row.get(key), str) and len(row[key]) > limit:
            raise ServerError(f"{key}: value too long for type character varying({limit})")
    for key, value in row.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and ("\0" in text or any("\ud800" <= c <= "\udfff" for c in text)):
                raise ServerError(f"{key}: text that the database cannot hold")


class Upload:
    """One import or reimport, from the parsed findings to the Test_Import row.

    options: service, active, verified, minimum_severity, close_old, product_scope, do_not_reactivate, mode, tags,
    version, build_id, commit_hash, branch_tag, settings (what the row repeats).
    run.step() is called before every finding that is written or closed, run.checkpoint(name) at "findings" and "row",
    run.wait_for_worker() where async_wait waits in vain.
    """

    def __init__(self, store, test, first, options, run):
        self.store = store
        self.test = test
        self.first = first
        self.options = options
        self.run = run
        self.created, self.closed, self.reactivated, self.unchanged = [], [], [], []
        self.complete = False
        self.before = None

    def perform(self, parsed):
        store, options = self.store, self.options
        with store.lock:
            self.before = store.test_statistics(self.test["id"])
            mine = store.rows("findings", test=self.test["id"])
            original = [f["id"] for f in mine if (f["service"] or "") == (options["service"] or "")]
            candidates = {}
            for finding in mine if not self.first else ():
                candidates.setdefault(finding["hash_code"], []).append(finding["id"])
        self.run.checkpoint("findings")
        self._write(self._prepare(parsed), candidates)
        self._post_process()
        kept = set(self.reactivated) | set(self.unchanged)
        if options["close_old"]:
            self._close([i for i in original if i not in kept])
            if options["old_of_other_tests"]:
                self._close(self._old_of_import())
        untouched = [i for i in dict.fromkeys(self.unchanged) if i not in self.created and i not in self.reactivated]
        self.run.checkpoint("row")
        with store.lock:
            self._finish(untouched)
            answer = self._statistics(untouched)
            if options["mode"] not in ("sync", "async_wait"):
                store.post_process(self.created)
        return answer

    def _prepare(self, parsed):
        options = self.options
        low = SEVERITIES.index(options["minimum_severity"])
        findings = [f for f in parsed if SEVERITIES.index(f["severity"]) >= low]
        if self.store.write_order == "severity":
            findings.sort(key=lambda f: SEVERITIES.index(f["severity"]))
        for finding in findings:
            if options["service"] is not None:
                finding["service"] = options["service"]
        return findings

    def _write(self, findings, candidates):
        for finding in findings:
            self.run.step()
            with self.store.lock:
                matches = candidates.get(self.store.hash_code(finding))
                if matches:
                    self._match(self.store.get("findings", min(matches)), finding)
                    continue
                for key in ("active", "verified"):
                    if self.options[key] is not None:
                        finding[key] = self.options[key]
                row = self.store.add_finding(self.test["id"], finding)
                self.created.append(row["id"])
                if not self.first:
                    candidates.setdefault(row["hash_code"], []).append(row["id"])

    def _match(self, existing, new):
        if existing["false_p"] or existing["out_of_scope"] or existing["risk_accepted"]:
            if existing["risk_accepted"] and not existing["active"]:
                self.unchanged.append(existing["id"])
        elif existing["is_mitigated"]:
            if new["is_mitigated"]:
                self.unchanged.append(existing["id"])
            elif not self.options["do_not_reactivate"]:
                existing.update(is_mitigated=False, mitigated=None, active=not existing["duplicate"])
                if self.options["verified"] is not None and not existing["duplicate"]:
                    existing["verified"] = self.options["verified"]
                self.store.save("findings", existing)
                self.reactivated.append(existing["id"])
        elif new["is_mitigated"]:
            existing.update(is_mitigated=True, mitigated=self.store.now(), active=False)
            self.store.save("findings", existing)
        else:
            self.unchanged.append(existing["id"])

    def _post_process(self):
        mode = self.options["mode"]
        if mode == "sync":
            self.store.deduplicate(self.created)
            self.complete = True
        elif mode == "async_wait":
            self.store.post_process(self.created)
            self.complete = self.store.worker
            if not self.complete:
                self.run.wait_for_worker()

    def _close(self, ids):
        for finding_id in ids:
            finding = self.store.get("findings", finding_id)
            if not finding["is_mitigated"]:
                self.run.step()
                self.store.mitigate(finding)
                self.closed.append(finding_id)

    def _old_of_import(self):
        """import-scan closes what older tests of the engagement (or product) have and this report has not."""
        with self.store.lock:
            seen = {self.store.get("findings", i)["hash_code"] for i in self.created}
            here = self.store.engagement_of(self.test)
            old = []
            for finding in self.store.rows("findings"):
                theirs = self.store.engagement_of(self.store.get("tests", finding["test"]))
                same = theirs["id"] == here["id"]
                if self.options["product_scope"]:
                    same = theirs["product"] == here["product"]
                service = (finding["service"] or "") == (self.options["service"] or "")
                other = finding["test"] != self.test["id"] and finding["hash_code"] not in seen
                if same and service and other and finding["active"]:
                    old.append(finding["id"])
            return old

    def _finish(self, untouched):
        store, options = self.store, self.options
        fields = {k: options[k] for k in ("version", "build_id", "commit_hash", "branch_tag")}
        check_lengths(fields, TEST_MAX)
        self.test.update(fields)
        if options["tags"] is not None:
            self.test["tags"] = sorted({t.lower() for t in options["tags"]})
        store.save("tests", self.test)
        actions = []
        for letter, ids in (("C", self.closed), ("N", self.created), ("R", self.reactivated), ("U", untouched)):
            for finding_id in sorted(ids):
                actions.append({"id": store.next_id("actions"), "action": letter, "finding": finding_id})
        row = {
            "test": self.test["id"],
            "type": "import" if self.first else "reimport",
            "actions": actions,
            "import_settings": options["settings"],
            **fields,
        }
        store.add("imports", row)

    def _statistics(self, untouched):
        store = self.store
        after = store.test_statistics(self.test["id"])
        if self.first:
            return {"after": after}
        buckets = {"created": self.created, "closed": self.closed, "reactivated": self.reactivated}
        delta = {
            name: store.statistics([store.get("findings", i) for i in ids])
            for name, ids in {**buckets, "untouched": untouched}.items()
        }
        return {"before": self.before, "delta": delta, "after": after}
