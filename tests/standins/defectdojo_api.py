"""The API of the stand-in DefectDojo: every check in the real one's order, every answer in its shape.

Api.answer(request) gives an Answer; the HTTP around it (defectdojo.py) knows nothing of DefectDojo.
"""

import datetime
import json
import re
import urllib.parse

import defectdojo_trivy as trivy
from defectdojo_store import NUMERICAL, SEVERITIES, TEST_TYPE_TRIVY, Refusal, ServerError, Upload

PRO = ["Pro comes with support. Try today for free or email us at hello@defectdojo.com"]
PRO_SLOW = ["Your import took about 1 minute(s). Did you know Pro has async imports? Try today for free or email us "
            "at hello@defectdojo.com"]
EXTENSIONS = "xml csv nessus json jsonl html js zip xlsx txt sarif fpr md log fvdl".split()
SCAN_TYPES = ("Trivy Scan",)
TRUE = {"t", "T", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "1"}
FALSE = {"f", "F", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "0"}
MODES = ("async", "sync", "async_wait")
DENIED = "You do not have permission to perform this action."
NO_CHOICE = "Select a valid choice. That choice is not one of the available choices."
LISTED = "GET, POST, HEAD, OPTIONS"
ONE = "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"
SLA_DAYS = {"Critical": 7, "High": 30, "Medium": 90, "Low": 120, "Info": None}


class Answer:
    def __init__(self, status, body, content_type="application/json", headers=None):
        self.status = status
        self.content_type = content_type
        self.headers = headers or {}
        self.body = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False,
                                                                     separators=(",", ":")).encode("utf-8", "replace")


class Stop(Exception):
    """An answer that ends the checks."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.answer = Answer(status, body)


def unsupported(request):
    media_type = request.headers.get("Content-Type", "")
    return Stop(415, {"detail": f'Unsupported media type "{media_type}" in request.'})


def quoted_error(text, code):
    return f"ErrorDetail(string={text!r}, code={code!r})"


def field_errors(errors):
    """400 of step 5: {field: [(text, code), ...]}"""
    body = {k: [text for text, _ in v] for k, v in errors.items()}
    inner = ", ".join(f"{k!r}: [{', '.join(quoted_error(*e) for e in v)}]" for k, v in errors.items())
    return {**body, "message": "{" + inner + "}", "pro": PRO}


def message(text):
    return {"message": text, "pro": PRO}


def server_error():
    return Answer(500, message("Internal server error, check logs for details"))


def html_page(size):
    """The head of DefectDojo's own page, padded to the size of the recorded one."""
    head = (
        '<!DOCTYPE html> <html lang="en"> <head> <meta charset="utf-8"> '
        '<meta http-equiv="X-UA-Compatible" content="IE=edge"> '
        '<meta name="viewport" content="width=device-width, initial-scale=1"> <meta name="description" content=""> '
        '<meta name="author" content=""> <title> DefectDojo </title> '
    )
    head += "<!-- jQuery (required) --> </head> <body>" if size < 20000 else "<!-- jQuery --> </head> <body>"
    tail = "</body> </html>"
    return (head + " " * (size - len(head) - len(tail)) + tail).encode()


def html_404():
    return Answer(404, html_page(10676), "text/html; charset=utf-8", {"Vary": "Cookie"})


def html_500():
    return Answer(500, html_page(41899), "text/html; charset=utf-8", {"Vary": "Cookie"})


class Request:
    """What the HTTP side hands over. form: name -> list of texts; files: name -> (file name, bytes)."""

    def __init__(self, method, path, query, headers, scheme="http"):
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.scheme = scheme
        self.form = {}
        self.files = {}
        self.body = b""

    @property
    def parameters(self):
        """Query fields; of a repeated one only the last counts."""
        return dict(urllib.parse.parse_qsl(self.query, keep_blank_values=True))

    @property
    def content_type(self):
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()


class Api:
    def __init__(self, store, users, settings):
        self.store = store
        self.users = users
        self.settings = settings

    # -- routing ------------------------------------------------------------------------------------------------------

    def route(self, path):
        """(handler, allowed methods, argument) or None."""
        name = path.removeprefix("/api/v2/").removesuffix("/")
        if name in ("reimport-scan", "import-scan"):
            return self._upload, "POST, OPTIONS", name
        if name == "user_profile":
            return self._user_profile, "GET, HEAD, OPTIONS", None
        if name in VIEWS:
            return self._list, LISTED, name
        parts = name.split("/")
        if len(parts) >= 2 and parts[0] in VIEWS and parts[1].isdigit():
            if len(parts) == 2:
                return self._one, ONE, (parts[0], int(parts[1]))
            action = getattr(self, f"_{parts[0]}_{parts[2]}", None) if len(parts) == 3 else None
            if action is not None and parts[2] in ("close", "reopen"):
                return action, "POST, OPTIONS", int(parts[1])
        return None

    def answer(self, request, run):
        """run: step(), checkpoint(name) and wait_for_worker() of this request."""
        path = request.path
        if path in ("/nginx_health", "/uwsgi_health"):
            return Answer(200, b"alive\n", "text/plain")
        if path.startswith("/login"):
            return self._login()
        if path == "/api/v2/oa3/schema/":
            return self._schema(request)
        if not path.startswith("/api/v2/"):
            target = "/login?next=" + urllib.parse.quote(path)
            return Answer(302, b"", "text/html; charset=utf-8", {"Location": target})
        route = self.route(path)
        if route is None:
            return html_404()
        handler, allowed, argument = route
        if not path.endswith("/"):
            query = "?" + request.query if request.query else ""
            return Answer(301, b"", "text/html; charset=utf-8", {"Location": path + "/" + query})
        try:
            user = self._user(request)
            answer = handler(user, request, argument, run)
        except Stop as stop:
            answer = stop.answer
        except (ServerError, RecursionError):
            answer = server_error()
        except Refusal as refusal:
            answer = Answer(400, message(str(refusal)))
        answer.headers.setdefault("Allow", allowed)
        answer.headers.setdefault("Vary", "Cookie")
        return answer

    def _user(self, request):
        words = request.headers.get("Authorization", "").split()
        if not words or words[0].lower() != "token":
            raise Stop(403, {"detail": "Authentication credentials were not provided."})
        if len(words) == 1:
            raise Stop(403, {"detail": "Invalid token header. No credentials provided."})
        user = self.users.get(words[1]) if len(words) == 2 else None
        if user is None:
            raise Stop(403, {"detail": "Invalid token."})
        return user

    def _login(self):
        page = f"<!DOCTYPE html><html><head><title>DefectDojo</title></head><body><form method=post></form>" \
               f"<footer>v. {self.settings['version']} ( release mode )</footer></body></html>"
        return Answer(200, page.encode(), "text/html; charset=utf-8")

    def _schema(self, request):
        schema = {
            "openapi": "3.0.3",
            "info": {"title": "DefectDojo API v2", "version": self.settings["version"],
                     "description": "DefectDojo - Open Source vulnerability Management made easy. Prefetch related "
                                    "parameters/responses not yet in the schema."},
            "paths": {f"/api/v2/{name}/": {} for name in ("reimport-scan", "import-scan", *VIEWS)},
            "components": {"schemas": {}},
        }
        return Answer(200, schema if request.parameters.get("format") == "json" else json.dumps(schema).encode(),
                      "application/json" if request.parameters.get("format") == "json"
                      else "application/vnd.oai.openapi")

    # -- uploads: steps 3 to 8 ----------------------------------------------------------------------------------------

    def _upload(self, user, request, kind, run):
        again = kind == "reimport-scan"
        form = {k: v[-1] for k, v in request.form.items() if v[-1] != ""}
        has_body = request.body or request.content_type
        if request.method == "POST" and has_body and request.content_type != "multipart/form-data":
            raise unsupported(request)
        context = self._permission(user, form if request.method == "POST" else {}, again)
        if request.method != "POST":
            raise Stop(405, {"detail": f'Method "{request.method}" not allowed.'})
        data = self._fields(request, again)
        environment = self._environment(data)
        if again and not context["test"] and not data["auto_create_context"]:
            raise Stop(404, {"detail": "A test could not be found!"})
        return Answer(201, self._import(user, context, data, environment, again, run))

    def _named(self, form, user):
        """Product type, product and engagement that the names (or the id of an engagement) point at."""
        store = self.store
        product_type = store.last("product_types", name=form.get("product_type_name"))
        product = store.last("products", name=form["product_name"]) if form.get("product_name") else None
        if product and form.get("product_type_name"):
            existing = store.get("product_types", product["prod_type"])["name"]
            if existing != form["product_type_name"]:
                raise Stop(400, ["The fetched product has a conflict with the supplied product type name: existing "
                                 f"product type name - {existing} vs supplied product type name - "
                                 f"{form['product_type_name']}"])
        engagement = None
        if product and form.get("engagement_name"):
            engagement = store.last("engagements", product=product["id"], name=form["engagement_name"])
        return {"product_type": product_type, "product": product, "engagement": engagement, "test": None}

    @staticmethod
    def _id(form, key):
        if key in form and not form[key].isdigit():
            raise Stop(400, [f"{key} must be an integer"])
        return int(form[key]) if key in form else None

    def _permission(self, user, form, again):
        """Step 4."""
        form = {k: v.strip() if k.endswith("_name") or k == "test_title" else v for k, v in form.items()}
        with self.store.lock:
            test_id = self._id(form, "test") if again else None
            engagement_id = self._id(form, "engagement") if not again else None
            context = self._named(form, user)
            if engagement_id is not None:
                context["engagement"] = self.store.get("engagements", engagement_id)
                if not context["engagement"]:
                    raise Stop(400, [f'Engagement "{engagement_id}" does not exist'])
            if again:
                context["test"] = self._existing_test(form, test_id, context["engagement"])
            if context["test"]:
                self._consistent(form, context)
                return self._allow(user, context["test"], context)
            if test_id is not None:
                raise Stop(400, [f'Test "{test_id}" does not exist'])
            if "auto_create_context" not in form and engagement_id is None:
                self._not_auto_created(form, context, again)
            return self._auto_create_permission(user, form, context)

    def _existing_test(self, form, test_id, engagement):
        if test_id is not None:
            return self.store.get("tests", test_id)
        if not engagement:
            return None
        wanted = {"engagement": engagement["id"], "scan_type": form.get("scan_type")}
        if form.get("test_title"):
            wanted["title"] = form["test_title"]
        return self.store.last("tests", **wanted)

    def _allow(self, user, row, context):
        if not self.store.may(user, row):
            raise Stop(403, {"detail": DENIED})
        return context

    def _consistent(self, form, context):
        engagement = self.store.engagement_of(context["test"])
        product = self.store.product_of(engagement)
        named = {"engagement": (context["engagement"], "engagement_name", engagement),
                 "product": (context["product"], "product_name", product)}
        for kind, (found, key, own) in named.items():
            other = found["id"] != own["id"] if found else form.get(key) and form[key] != own["name"]
            if other:
                raise Stop(400, ["The provided identifiers are inconsistent — the test does not belong to the "
                                 f"specified {kind}."])

    def _mandatory(self, form):
        for key in ("product_name", "engagement_name"):
            if not form.get(key):
                raise Stop(400, [f"{key} parameter missing"])

    def _not_auto_created(self, form, context, again):
        """auto_create_context not sent at all; sent as false it counts as sent here, and step 6 answers."""
        self._mandatory(form)
        type_name, product, engagement = (form.get(k) for k in ("product_type_name", "product_name", "engagement_name"))
        if type_name and not context["product_type"]:
            raise Stop(400, [f'Product Type "{type_name}" does not exist'])
        if not context["product"]:
            raise Stop(400, [f'Product "{product}" does not exist' +
                             (f' in Product_Type "{type_name}"' if type_name else "")])
        if not context["engagement"]:
            raise Stop(400, [f'Engagement "{engagement}" does not exist in Product "{product}"'])
        if again:
            title = f' "{form["test_title"]}"' if form.get("test_title") else ""
            raise Stop(400, [f'Test{title} with scan_type "{form.get("scan_type")}" does not exist in Engagement '
                             f'"{engagement}"'])

    def _auto_create_permission(self, user, form, context):
        if context["engagement"] is None or not form.get("engagement"):
            self._mandatory(form)
        if context["engagement"]:
            return self._allow(user, context["engagement"], context)
        name, type_name = form.get("product_name"), form.get("product_type_name")
        if context["product"]:
            if not self.store.may(user, context["product"]):
                raise Stop(403, {"detail": f'No permission to create engagements in product "{name}"'})
            return context
        if not type_name:
            raise Stop(400, [f'Product "{name}" does not exist and no product_type_name provided to create the new '
                             "product in"])
        if not context["product_type"]:
            if not user["is_staff"]:
                raise Stop(403, {"detail": f'No permission to create product_type "{type_name}"'})
            return context
        if not self.store.may(user, context["product_type"]):
            raise Stop(403, {"detail": f'No permission to create products in product_type "{type_name}"'})
        return context

    def _fields(self, request, again):
        """Step 5. The result has the fields in the order in which they are echoed."""
        fields = Fields(request)
        fields.date("scan_date", future="The scan_date cannot be in the future!")
        fields.choice("minimum_severity", SEVERITIES, default="Info")
        for key in ("active", "verified"):
            fields.boolean(key)
        fields.integer("endpoint_to_add", default=None)
        fields.file()
        for key in ("product_type_name", "product_name", "engagement_name"):
            fields.text(key)
        fields.date("engagement_end_date")
        fields.url("source_code_management_uri")
        fields.text("test_title")
        for key in ("auto_create_context", "deduplication_on_engagement"):
            fields.boolean(key)
        fields.integer("lead", default=None)
        fields.boolean("push_to_jira")
        fields.choice("deduplication_execution_mode", MODES)
        for key in ("environment", "build_id", "branch_tag", "commit_hash"):
            fields.text(key)
        fields.integer("api_scan_configuration", default=None)
        fields.text("service")
        fields.choice("group_by", ("component_name", "component_name+component_version", "file_path", "finding_title",
                                   "vuln_id_from_tool"))
        fields.boolean("create_finding_groups_for_all_findings", default=True)
        fields.data["test_id"] = None
        for key in ("apply_tags_to_findings", "apply_tags_to_endpoints"):
            fields.boolean(key)
        if again:
            fields.boolean("do_not_reactivate")
        fields.choice("scan_type", SCAN_TYPES, required=True)
        if again:
            fields.data["test"] = None
        else:
            fields.tags()
        fields.boolean("close_old_findings", default=again)
        fields.boolean("close_old_findings_product_scope")
        fields.text("version")
        if again:
            fields.tags()
        else:
            fields.data["test"] = None
        fields.refuse()
        if fields.report is None:
            fields.error("non_field_errors", f"Uploading a Report File is required for {fields.data['scan_type']}")
        elif len(fields.report) > self.settings["max_report"]:
            fields.error("non_field_errors", "Report file is too large. Maximum supported size is 100 MB")
        fields.refuse()
        fields.data[None] = fields
        return fields.data

    def _environment(self, data):
        name = data.get("environment", "Development")
        with self.store.lock:
            row = self.store.last("environments", name=name)
            if row is None:
                if not data["auto_create_context"]:
                    raise Refusal(f"['Environment named {name} does not exist.']")
                row = self.store.add("environments", {"name": name})
            return row

    def _context(self, user, context, data, environment, run):
        """Step 7, first half: product, engagement and test. Since step 4 looked, others may have been faster."""
        store = self.store
        run.checkpoint("context")
        engagement = store.engagement_of(context["test"]) if context["test"] else context["engagement"]
        if engagement is None:
            engagement = self._create_engagement(user, context, data)
        test = context["test"]
        first = test is None
        if first:
            test = store.add_test(
                data.get("test_title"), engagement["id"], environment=environment["id"], scan_type=data["scan_type"],
                lead=data["lead"],
                **{k: data.get(k, "") for k in ("version", "build_id", "commit_hash", "branch_tag")},
            )
        return test, first

    def _create_engagement(self, user, context, data):
        store = self.store
        product = context["product"]
        if product is None:
            if context["product_type"] is None:
                context["product_type"] = store.last("product_types", name=data["product_type_name"]) or \
                    store.add_product_type(data["product_type_name"], [user["id"]])
            product = store.add_product(data["product_name"], context["product_type"]["id"])
        with store.lock:
            return store.last("engagements", product=product["id"], name=data["engagement_name"]) or \
                store.add_engagement(
                    data["engagement_name"], product["id"], lead=user["id"],
                    deduplication_on_engagement=data["deduplication_on_engagement"],
                    source_code_management_uri=data.get("source_code_management_uri"))

    def _import(self, user, context, data, environment, again, run):
        fields = data.pop(None)
        test, first = self._context(user, context, data, environment, run)
        try:
            parsed = trivy.parse(fields.report)
        except trivy.Refused as refused:
            raise Refusal(str(refused)) from refused
        except Exception as e:
            raise ServerError(repr(e)) from e
        upload = Upload(self.store, test, first, self._options(data, fields, again), run)
        statistics = upload.perform(parsed)
        engagement = self.store.engagement_of(test)
        product = self.store.product_of(engagement)
        data["test"] = test["id"]
        ids = {"test_id": test["id"], "engagement_id": engagement["id"], "product_id": product["id"],
               "product_type_id": product["prod_type"], "statistics": statistics,
               "deduplication_complete": upload.complete}
        if data.get("deduplication_execution_mode") == "async_wait" and not upload.complete:
            ids["pro"] = PRO_SLOW
        body = {}
        for key, value in data.items():
            body.update(ids if key == "test_id" else {key: value})
        run.checkpoint("answer")
        return body

    def _options(self, data, fields, again):
        settings = {
            "tags": data.get("tags"), "active": fields.given("active"), "service": data.get("service"),
            "group_by": data.get("group_by"), "verified": fields.given("verified"),
            "scan_date": data.get("scan_date"), "push_to_jira": data["push_to_jira"],
            "minimum_severity": data["minimum_severity"], "do_not_reactivate": data.get("do_not_reactivate", False),
            "close_old_findings": data["close_old_findings"],
            "apply_tags_to_findings": data["apply_tags_to_findings"],
            "apply_tags_to_endpoints": data["apply_tags_to_endpoints"],
            "close_old_findings_product_scope": data["close_old_findings_product_scope"],
            "create_finding_groups_for_all_findings": data["create_finding_groups_for_all_findings"],
        }
        return {
            "service": data.get("service"),
            "active": fields.given("active"),
            "verified": fields.given("verified"),
            "minimum_severity": data["minimum_severity"],
            # A reimport that makes its test leaves the other tests alone.
            "close_old": data["close_old_findings"],
            "product_scope": data["close_old_findings_product_scope"],
            "old_of_other_tests": not again,
            "do_not_reactivate": data.get("do_not_reactivate", False),
            "mode": data.get("deduplication_execution_mode"),
            "tags": data.get("tags"),
            "settings": settings,
            **{k: data.get(k, "") for k in ("version", "build_id", "commit_hash", "branch_tag")},
        }

    # -- reading ------------------------------------------------------------------------------------------------------

    def _user_profile(self, user, request, _, run):
        if request.method not in ("GET", "HEAD"):
            raise Stop(405, {"detail": f'Method "{request.method}" not allowed.'})
        profile = {
            "id": user["id"], "username": user["username"], "first_name": "", "last_name": "",
            "email": f"{user['username']}@example.com", "date_joined": user["date_joined"], "last_login": None,
            "is_active": True, "is_staff": user["is_staff"], "is_superuser": user["is_staff"],
            "token_last_reset": None, "password_last_reset": None, "configuration_permissions": [],
        }
        return Answer(200, {"user": profile, "user_contact_info": None})

    def _list(self, user, request, name, run):
        if request.method == "POST":
            if name == "risk_acceptance":
                return self._accept(user, request)
            raise Stop(403, {"detail": DENIED})
        if request.method not in ("GET", "HEAD"):
            raise Stop(405, {"detail": f'Method "{request.method}" not allowed.'})
        view = VIEWS[name]
        parameters = request.parameters
        with self.store.lock:
            rows = self._visible(user, view)
            rows = self._ordered(view, self._filtered(view, rows, parameters), parameters)
            limit, offset = (self._number(parameters, k, d) for k, d in (("limit", 25), ("offset", 0)))
            limit = limit or 25
            page = [view.show(self, r, parameters) for r in rows[offset:offset + limit]]
        body = {"count": len(rows), "next": None, "previous": None, "results": page}
        if offset + limit < len(rows):
            body["next"] = self._link(request, limit, offset + limit)
        if offset > 0:
            body["previous"] = self._link(request, limit, offset - limit)
        if view.prefetch:
            body["prefetch"] = {}
        return Answer(200, body)

    @staticmethod
    def _number(parameters, key, default):
        text = parameters.get(key, "")
        return int(text) if text.isdecimal() else default

    @staticmethod
    def _link(request, limit, offset):
        query = {**request.parameters, "limit": limit, "offset": offset}
        if offset <= 0:
            del query["offset"]
        scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
        host = request.headers.get("Host", "localhost")
        return f"{scheme}://{host}{request.path}?{urllib.parse.urlencode(sorted(query.items()))}"

    def _visible(self, user, view):
        rows = self.store.rows(view.table) if view.table else [{"id": TEST_TYPE_TRIVY, "name": "Trivy Scan"}]
        if view.owned and not user["is_staff"]:
            rows = [r for r in rows if self.store.may(user, r)]
        return rows

    def _filtered(self, view, rows, parameters):
        errors = {}
        for key, rule in view.filters.items():
            text = parameters.get(key, "")
            if text == "":
                continue
            try:
                keep = rule(self, key, text)
            except ValueError as e:
                errors[key] = [(str(e), "invalid_choice")]
                continue
            if keep is not None:
                rows = [r for r in rows if keep(r)]
        order = parameters.get("o", "")
        for name in order.split(",") if order and view.orders else ():
            if name.removeprefix("-") not in view.orders:
                text = f"Select a valid choice. {name} is not one of the available choices."
                errors["o"] = [(text, "invalid_choice")]
        if errors:
            raise Stop(400, field_errors(errors))
        return rows

    def _ordered(self, view, rows, parameters):
        rows = sorted(rows, key=view.order)
        if parameters.get("o") and view.orders:
            for name in reversed(parameters["o"].split(",")):
                key = name.removeprefix("-")
                rows.sort(key=lambda r, k=key: (r.get(k) is not None, r.get(k) if r.get(k) is not None else 0),
                          reverse=name.startswith("-"))
        return rows

    def _row(self, user, name, row_id):
        view = VIEWS[name]
        for row in self._visible(user, view):
            if row["id"] == row_id:
                return row
        raise Stop(404, {"detail": f"No {view.noun} matches the given query."})

    def _one(self, user, request, argument, run):
        name, row_id = argument
        view = VIEWS[name]
        with self.store.lock:
            row = self._row(user, name, row_id)
            if request.method == "DELETE" and not user["is_staff"]:
                raise Stop(403, {"detail": DENIED})
            if request.method == "PATCH" and name in ("findings", "engagements"):
                (self._patch_finding if name == "findings" else self._patch_engagement)(row, self._json(request))
            elif request.method not in ("GET", "HEAD"):
                raise Stop(405, {"detail": f'Method "{request.method}" not allowed.'})
            body = view.show(self, row, request.parameters)
        if view.prefetch and request.method != "PATCH":
            body["prefetch"] = {}
        return Answer(200, body)

    # -- changing -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _json(request):
        if request.content_type == "multipart/form-data" or not request.body:
            return {k: v[-1] for k, v in request.form.items()}
        if request.content_type != "application/json":
            raise unsupported(request)
        try:
            body = json.loads(request.body)
        except ValueError as e:
            raise Stop(400, {"detail": f"JSON parse error - {e}"}) from e
        if not isinstance(body, dict):
            text = f"Invalid data. Expected a dictionary, but got {type(body).__name__}."
            raise Stop(400, field_errors({"non_field_errors": [(text, "invalid")]}))
        return body

    def _patch_finding(self, finding, body):
        flags = ("active", "verified", "false_p", "out_of_scope", "is_mitigated", "duplicate", "risk_accepted")
        texts = ("title", "severity", "description", "mitigation", "references", "impact", "service", "component_name",
                 "component_version", "file_path", "steps_to_reproduce", "severity_justification")
        changes = {k: body[k] for k in flags + texts if k in body}
        errors = {}
        for key, value in changes.items():
            if key in flags and str(value) not in TRUE | FALSE:
                errors[key] = [("Must be a valid boolean.", "invalid")]
            elif key in flags:
                changes[key] = str(value) in TRUE
            elif key == "severity" and value not in SEVERITIES:
                errors[key] = [(f'"{value}" is not a valid choice.', "invalid_choice")]
        if errors:
            raise Stop(400, field_errors(errors))
        state = {**finding, **changes}
        text = None
        if (state["active"] or state["verified"]) and state["duplicate"]:
            text = "Duplicate findings cannot be verified or active"
        elif state["false_p"] and state["verified"]:
            text = "False positive findings cannot be verified."
        elif state["risk_accepted"] and not finding["risk_accepted"]:
            text = "Simple risk acceptance is disabled for this product, use the UI to accept this finding."
        elif state["active"] and state["risk_accepted"]:
            text = "Active findings cannot be risk accepted."
        if text:
            raise Stop(400, field_errors({"non_field_errors": [(text, "invalid")]}))
        if finding["risk_accepted"] and not state["risk_accepted"]:
            self.store.unaccept(finding, active=state["active"])
        self.store.change_finding(finding, changes)

    def _patch_engagement(self, engagement, body):
        for key in ("name", "status", "active", "deduplication_on_engagement", "tags", "source_code_management_uri"):
            if key in body:
                engagement[key] = body[key]
        self.store.save("engagements", engagement)

    def _findings_close(self, user, request, finding_id, run):
        with self.store.lock:
            finding = self._row(user, "findings", finding_id)
            body = self._json(request)
            if "is_mitigated" not in body:
                raise Stop(400, field_errors({"is_mitigated": [("This field is required.", "required")]}))
            changes = {k: bool(body.get(k, False)) for k in ("is_mitigated", "false_p", "out_of_scope")}
            if changes["false_p"]:
                changes["verified"] = False
            self.store.change_finding(finding, {**changes, "active": False})
            shown = {"is_mitigated": finding["is_mitigated"], "mitigated": finding["mitigated"]}
            return Answer(200, {**shown, **{k: finding[k] for k in ("false_p", "out_of_scope", "duplicate")}})

    def _engagements_close(self, user, request, engagement_id, run):
        return self._set_status(user, request, engagement_id, "Completed", False)

    def _engagements_reopen(self, user, request, engagement_id, run):
        return self._set_status(user, request, engagement_id, "In Progress", True)

    def _set_status(self, user, request, engagement_id, status, active):
        if request.method != "POST":
            raise Stop(405, {"detail": f'Method "{request.method}" not allowed.'})
        with self.store.lock:
            engagement = self._row(user, "engagements", engagement_id)
            engagement.update(status=status, active=active)
            self.store.save("engagements", engagement)
        return Answer(200, {})

    def _accept(self, user, request):
        body = self._json(request)
        missing = [k for k in ("name", "owner", "accepted_findings") if k not in body]
        if missing:
            raise Stop(400, field_errors({k: [("This field is required.", "required")] for k in missing}))
        if not isinstance(body["accepted_findings"], list) or not body["accepted_findings"]:
            raise Stop(400, field_errors({"accepted_findings": [("This list may not be empty.", "empty")]}))
        with self.store.lock:
            for finding_id in body["accepted_findings"]:
                finding = self.store.get("findings", finding_id)
                if finding is None:
                    text = f'Invalid pk "{finding_id}" - object does not exist.'
                    raise Stop(400, field_errors({"accepted_findings": [(text, "does_not_exist")]}))
                if not self.store.may(user, finding):
                    raise Stop(403, {"detail": DENIED})
            fields = {
                "engagement": self.store.get("tests", finding["test"])["engagement"],
                "name": body["name"], "owner": body["owner"], "accepted_by": body.get("accepted_by"),
                "accepted_findings": list(body["accepted_findings"]),
                "recommendation": body.get("recommendation", "F"),
                "recommendation_details": body.get("recommendation_details"),
                "decision": body.get("decision", "A"), "decision_details": body.get("decision_details"),
                "expiration_date": body.get("expiration_date"), "expiration_date_handled": None,
                "reactivate_expired": body.get("reactivate_expired", True),
                "restart_sla_expired": body.get("restart_sla_expired", False),
            }
            return Answer(201, show_acceptance(self, self.store.accept(fields), {}))


class Fields:
    """The fields of an upload: collects values to echo and errors."""

    def __init__(self, request):
        self.form = {k: [t.strip() for t in v] for k, v in request.form.items()}
        self.files = request.files
        self.data = {}
        self.errors = {}
        self.report = None

    def error(self, key, text, code="invalid"):
        self.errors.setdefault(key, []).append((text, code))

    def refuse(self):
        if self.errors:
            raise Stop(400, field_errors(self.errors))

    def given(self, key):
        """The value of a boolean that was sent, else None."""
        return self.data[key] if self._raw(key) else None

    def _raw(self, key):
        return self.form.get(key, [""])[-1]

    def text(self, key):
        value = self._raw(key)
        if "\0" in value:
            self.error(key, "Null characters are not allowed.", "null_characters_not_allowed")
        elif value:
            self.data[key] = value

    def boolean(self, key, default=False):
        value = self._raw(key)
        if value and value not in TRUE | FALSE:
            self.error(key, "Must be a valid boolean.")
        self.data[key] = value in TRUE if value else default

    def integer(self, key, default):
        value = self._raw(key)
        if value and not value.lstrip("-").isdecimal():
            self.error(key, f"Incorrect type. Expected pk value, received {type(value).__name__}.", "incorrect_type")
            return
        self.data[key] = int(value) if value else default

    def choice(self, key, choices, default=None, required=False):
        value = self._raw(key)
        if not value and required:
            self.error(key, "This field is required.", "required")
        elif value and value not in choices:
            self.error(key, f'"{value}" is not a valid choice.', "invalid_choice")
        elif value or default is not None:
            self.data[key] = value or default

    def date(self, key, future=None):
        value = self._raw(key)
        if not value:
            return
        try:
            date = datetime.date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d{1,2}-\d{1,2}", value) else None
        except ValueError:
            date = None
        if date is None:
            self.error(key, "Date has wrong format. Use one of these formats instead: YYYY-MM-DD.")
        elif future and date > datetime.date.today():
            self.error(key, future)
        else:
            self.data[key] = value

    def url(self, key):
        value = self._raw(key)
        if value and not re.fullmatch(r"(?:https?|ftps?)://[^\s/?#@]+(?:[/?#]\S*)?", value, re.IGNORECASE):
            self.error(key, "Enter a valid URL.")
        elif value:
            self.data[key] = value

    def file(self):
        if "file" not in self.files:
            return
        name, self.report = self.files["file"]
        base = name.rsplit("/", 1)[-1]
        extension = base.rsplit(".", 1)[1].lower() if "." in base else ""
        if extension not in EXTENSIONS:
            self.error("file", f"File extension “{extension}” is not allowed. Allowed extensions are: "
                       f"{', '.join(EXTENSIONS)}.", "invalid_extension")

    def tags(self):
        if "tags" not in self.form:
            return
        tags = [t for text in self.form["tags"] for t in re.split(r'[,"]', text) if t]
        for tag in tags:
            if " " in tag or "'" in tag:
                self.error("tags", f"Invalid tag: '{tag}'. Tags should not contain spaces, commas, or quotes.")
        self.data["tags"] = tags


# -- filters: (api, key, text) -> predicate, None to ignore, ValueError to refuse --------------------------------------


def exact(field):
    return lambda api, key, text: lambda row: row.get(field) == text


def contains(field):
    return lambda api, key, text: lambda row: text.lower() in (row.get(field) or "").lower()


def flag(field):
    """Fails open: anything but these four words is ignored."""
    words = {"true": True, "True": True, "false": False, "False": False}
    return lambda api, key, text: (lambda row: bool(row.get(field)) == words[text]) if text in words else None


def one_of(field):
    return lambda api, key, text: lambda row: row.get(field) in text.split(",")


def related(table, value):
    def rule(api, key, text):
        if not text.isdecimal() or api.store.get(table, int(text)) is None:
            raise ValueError(NO_CHOICE)
        return lambda row: value(api.store, row) == int(text)
    return rule


def number(value):
    def rule(api, key, text):
        if not all(t.isdecimal() for t in text.split(",")):
            raise ValueError("Enter a number.")
        return lambda row: value(api.store, row) in [int(t) for t in text.split(",")]
    return rule


def holds(field, table):
    def rule(api, key, text):
        if not text.isdecimal() or api.store.get(table, int(text)) is None:
            raise ValueError(NO_CHOICE)
        return lambda row: int(text) in (row.get(field) or ())
    return rule


# -- how rows are shown ------------------------------------------------------------------------------------------------


def times(row):
    return {"created": row["created"], "updated": row["updated"]}


def show_product_type(api, row, parameters):
    return {"id": row["id"], **times(row), "name": row["name"], "description": None, "critical_product": False,
            "key_product": False, "authorized_users": row["authorized_users"]}


def show_product(api, row, parameters):
    mine = [f["id"] for f in api.store.rows("findings") if api.store.product_of(f)["id"] == row["id"]]
    return {
        "id": row["id"], "findings_count": len(mine), "findings_list": mine, "business_criticality": None,
        "platform": None, "lifecycle": None, "origin": None, "product_meta": [], **times(row), "name": row["name"],
        "description": row["name"], "prod_numeric_grade": None, "user_records": None, "revenue": None,
        "external_audience": False, "internet_accessible": False, "enable_product_tag_inheritance": False,
        "enable_simple_risk_acceptance": False, "enable_full_risk_acceptance": True,
        "disable_sla_breach_notifications": False, "product_manager": None, "technical_contact": None,
        "team_manager": None, "prod_type": row["prod_type"], "sla_configuration": 1,
        "authorized_users": row["authorized_users"], "regulations": [], "tags": [],
    }


def show_engagement(api, row, parameters):
    accepted = [a["id"] for a in api.store.rows("acceptances", engagement=row["id"])]
    return {
        "id": row["id"], **times(row), "name": row["name"], "description": None, "version": None,
        "first_contacted": None, "target_start": row["created"][:10], "target_end": row["target_end"], "reason": None,
        "active": row["active"], "tracker": None, "test_strategy": None, "threat_model": True, "api_test": True,
        "pen_test": True, "check_list": True, "status": row["status"], "progress": "threat_model",
        "tmodel_path": "none", "done_testing": False, "engagement_type": "CI/CD", "build_id": None,
        "commit_hash": None, "branch_tag": None,
        "source_code_management_uri": row["source_code_management_uri"],
        "deduplication_on_engagement": row["deduplication_on_engagement"], "lead": row["lead"], "requester": None,
        "preset": None, "report_type": None, "product": row["product"], "cicd_scm_server": None,
        "cicd_build_server": None, "cicd_orchestration_engine": None, "notes": [], "files": [],
        "risk_acceptance": accepted, "tags": row["tags"],
    }


def show_test(api, row, parameters):
    return {
        "id": row["id"], "test_type_name": "Trivy Scan", "deduplication_algorithm": "hash_code",
        "hash_code_fields": api.store.hash_code_fields, "scan_type": row["scan_type"], "title": row["title"],
        "description": None, "target_start": row["created"], "target_end": row["created"], "percent_complete": 100,
        "updated": row["updated"], "created": row["created"], "version": row["version"], "build_id": row["build_id"],
        "commit_hash": row["commit_hash"], "branch_tag": row["branch_tag"], "engagement": row["engagement"],
        "lead": row["lead"], "test_type": TEST_TYPE_TRIVY, "environment": row["environment"],
        "api_scan_configuration": None, "notes": [], "files": [], "tags": row["tags"], "finding_groups": [],
    }


def show_test_type(api, row, parameters):
    return {"id": row["id"], "name": row["name"], "static_tool": False, "dynamic_tool": False, "active": True}


def show_import(api, row, parameters):
    def place(action):
        finding = api.store.get("findings", action["finding"])
        return action["action"], *finding_order(finding)
    actions = [
        {"id": a["id"], "created": row["created"], "modified": row["updated"], "action": a["action"],
         "test_import": row["id"], "finding": a["finding"]}
        for a in sorted(row["actions"], key=place)
    ]
    return {
        "id": row["id"], "test_import_finding_action_set": actions, "created": row["created"],
        "modified": row["updated"], "import_settings": row["import_settings"], "type": row["type"],
        **{k: row[k] for k in ("version", "build_id", "commit_hash", "branch_tag", "test")},
        "findings_affected": sorted(a["finding"] for a in row["actions"]),
    }


def show_acceptance(api, row, parameters):
    return {
        "id": row["id"], "path": "No proof has been supplied",
        **{k: row[k] for k in ("name", "recommendation", "recommendation_details", "decision", "decision_details",
                               "accepted_by", "expiration_date")},
        "expiration_date_warned": None, "expiration_date_handled": row["expiration_date_handled"],
        "reactivate_expired": row["reactivate_expired"], "restart_sla_expired": row["restart_sla_expired"],
        **times(row), "owner": row["owner"], "accepted_findings": row["accepted_findings"], "notes": [],
    }


def display_status(f):
    words = ["Active" if f["active"] else "Inactive"]
    for key, word in (("verified", "Verified"), ("is_mitigated", "Mitigated"), ("false_p", "False Positive"),
                      ("out_of_scope", "Out Of Scope"), ("duplicate", "Duplicate"), ("risk_accepted", "Risk Accepted")):
        if f[key]:
            words.append(word)
    return ", ".join(words)


def show_related(api, f):
    test = api.store.get("tests", f["test"])
    engagement = api.store.engagement_of(test)
    product = api.store.product_of(engagement)
    prod_type = api.store.get("product_types", product["prod_type"])
    named = {"product": {"id": product["id"], "name": product["name"],
                         "prod_type": {"id": prod_type["id"], "name": prod_type["name"]}}}
    uploaded = {k: test[k] for k in ("version", "build_id", "commit_hash", "branch_tag")}
    return {"test": {"id": test["id"], "title": test["title"],
                     "test_type": {"id": TEST_TYPE_TRIVY, "name": "Trivy Scan"}, **uploaded,
                     "engagement": {"id": engagement["id"], "name": engagement["name"], **named}}}


def show_finding(api, f, parameters):
    days = SLA_DAYS[f["severity"]]
    expires = (datetime.date.fromisoformat(f["date"]) + datetime.timedelta(days=days)).isoformat() if days else None
    accepted = [show_acceptance(api, a, {}) for a in api.store.rows("acceptances")
                if f["id"] in a["accepted_findings"]]
    related_fields = show_related(api, f) if parameters.get("related_fields") in ("true", "True") else None
    own = dict.fromkeys(FINDING_KEYS)
    own.update({k: v for k, v in f.items() if k in own})
    own.update(
        request_response={"req_resp": []}, accepted_risks=accepted, push_to_jira=False, found_by=[TEST_TYPE_TRIVY],
        age=0, sla_days_remaining=days, finding_meta=[], related_fields=related_fields,
        display_status=display_status(f), finding_groups=[],
        vulnerability_ids=[{"vulnerability_id": v} for v in f["vulnerability_ids"]],
        cwes=[{"cwe": f"CWE-{f['cwe']}"}] if f["cwe"] else [], reporter=2, endpoints=[], sla_expiration_date=expires,
        known_exploited=False, ransomware_used=False, under_review=False, last_status_update=f["updated"],
        under_defect_review=False, thread_id=0, numerical_severity=NUMERICAL[f["severity"]],
        last_reviewed=f["created"], static_finding=True, dynamic_finding=False, last_reviewed_by=2, reviewers=[],
        notes=[], files=[],
    )
    return own


FINDING_KEYS = (
    "id mitigated mitigated_by request_response accepted_risks push_to_jira found_by age sla_days_remaining "
    "finding_meta related_fields jira_creation jira_change display_status finding_groups vulnerability_ids cwes "
    "reporter endpoints created updated title date sla_start_date sla_expiration_date cwe epss_score epss_percentile "
    "known_exploited ransomware_used kev_date cvssv3 cvssv3_score cvssv4 cvssv4_score url severity description "
    "mitigation fix_available fix_version impact steps_to_reproduce severity_justification references active verified "
    "false_p duplicate out_of_scope risk_accepted under_review last_status_update under_defect_review is_mitigated "
    "thread_id numerical_severity last_reviewed param payload hash_code line file_path component_name "
    "component_version static_finding dynamic_finding scanner_confidence unique_id_from_tool vuln_id_from_tool "
    "sast_source_object sast_sink_object sast_source_line sast_source_file_path nb_occurences publish_date service "
    "planned_remediation_date planned_remediation_version effort_for_fixing test duplicate_finding "
    "review_requested_by defect_review_requested_by last_reviewed_by sonarqube_issue reviewers notes files tags"
).split()


def finding_order(finding):
    return NUMERICAL[finding["severity"]], finding["date"], finding["title"], finding["id"]


class View:
    def __init__(self, table, noun, show, filters, order=lambda r: r["id"], orders=(), prefetch=True, owned=True):
        self.table = table
        self.noun = noun
        self.show = show
        self.filters = filters
        self.order = order
        self.orders = frozenset(orders)
        self.prefetch = prefetch
        self.owned = owned


def _own(key):
    return lambda store, row: row[key]


def _engagement(store, finding):
    return store.get("tests", finding["test"])["engagement"]


def _product(store, finding):
    return store.product_of(finding)["id"]


def _product_name(api, key, text):
    return lambda row: api.store.product_of(row)["name"] == text


def _vulnerability(api, key, text):
    return lambda row: text in row["vulnerability_ids"]


FINDING_FILTERS = {
    "id": number(_own("id")),
    "test": related("tests", _own("test")),
    "test__engagement": number(_engagement),
    "test__engagement__product": number(_product),
    "severity": one_of("severity"),
    "hash_code": exact("hash_code"),
    "exact_title": exact("title"),
    "title": contains("title"),
    "description": contains("description"),
    "component_name": contains("component_name"),
    "component_version": contains("component_version"),
    "file_path": contains("file_path"),
    "service": contains("service"),
    "product_name": _product_name,
    "vulnerability_id": _vulnerability,
    "tags": lambda api, key, text: lambda row: bool(set(text.split(",")) & set(row["tags"] or ())),
    "duplicate_finding": related("findings", _own("duplicate_finding")),
    **{k: flag(k) for k in ("active", "verified", "duplicate", "false_p", "out_of_scope", "risk_accepted",
                            "is_mitigated", "fix_available")},
}
FINDING_ORDERS = ("id active component_name component_version created cwe date duplicate false_p is_mitigated "
                  "last_status_update numerical_severity out_of_scope severity service title under_review verified")
VIEWS = {
    "findings": View("findings", "Finding", show_finding, FINDING_FILTERS, finding_order, FINDING_ORDERS.split()),
    "tests": View(
        "tests", "Test", show_test,
        {"id": number(_own("id")), "engagement": related("engagements", _own("engagement")),
         **{k: exact(k) for k in ("title", "scan_type", "version", "build_id", "commit_hash", "branch_tag")}},
        orders=("title", "version", "target_start", "target_end", "test_type", "lead", "branch_tag", "build_id",
                "created", "updated")),
    "test_imports": View(
        "imports", "Test_Import", show_import,
        {"test": related("tests", _own("test")),
         **{k: exact(k) for k in ("version", "build_id", "commit_hash", "branch_tag")}},
        order=lambda r: -r["id"]),
    "engagements": View(
        "engagements", "Engagement", show_engagement,
        {"id": number(_own("id")), "product": related("products", _own("product")), "name": exact("name"),
         "status": exact("status"), "active": flag("active")},
        orders=("name", "version", "target_start", "target_end", "product", "created", "updated"), prefetch=False),
    "products": View(
        "products", "Product", show_product,
        {"id": number(_own("id")), "name": contains("name"), "prod_type": number(_own("prod_type")),
         "name_exact": lambda api, key, text: lambda row: row["name"].lower() == text.lower()},
        orders=("id", "name", "created", "prod_type")),
    "product_types": View("product_types", "Product_Type", show_product_type,
                          {"id": number(_own("id")), "name": exact("name")}),
    "risk_acceptance": View(
        "acceptances", "Risk_Acceptance", show_acceptance,
        {"name": exact("name"), "accepted_findings": holds("accepted_findings", "findings"),
         "owner": number(_own("owner"))}),
    "test_types": View(None, "Test_Type", show_test_type, {"name": exact("name")}, prefetch=False, owned=False),
}
