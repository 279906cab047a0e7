"""The application: health, the API and the pages behind one guard."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from admin import problems
from admin.api import clients, deliveries, operations
from admin.desk import Desk
from admin.guard import API, Guard
from admin.pages import site
from admin.problems import Problem
from admin.status import Status
from pipeline import logs
from pipeline.errors import PipelineError, TransientError
from pipeline.health import Health

log = logs.get(__name__)


def build(desk: Desk, health: Health) -> FastAPI:
    """The application on `desk`. Nothing is reached past the guard but what it lists as open."""
    app = health.app(desk.settings, "admin")
    app.state.desk = desk
    app.state.status = status = Status(desk)

    @app.get("/pipeline/status")
    async def pipeline_status(request: Request) -> dict[str, Any]:
        """Every stage with its lag, and the balance; 503 while the ledger does not answer.

        What is out of balance is named to those with key or session only: keys of objects hold clients' ids.
        """
        try:
            found = await status.stages()
        except TransientError as error:
            raise HTTPException(503, str(error)) from error
        if getattr(request.state, "identity", None) is None:
            found = {**found, "balance": {**found["balance"], "imbalances": []}}
        return found

    app.include_router(_api())
    site.add_to(app)
    _handle_errors(app)
    key = desk.settings.admin_api_key
    app.add_middleware(
        Guard, pool=desk.pool, key=key.get_secret_value() if key else "", admin_url=desk.settings.admin_url
    )
    return app


def _api() -> APIRouter:
    api = APIRouter(prefix="/api/v1")
    for part in (clients, deliveries, operations):
        api.include_router(part.router)
    document: dict[str, Any] = {}

    @api.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        """This API, for programs that write programs."""
        if not document:
            document.update(describe(api))
        return JSONResponse(document)

    return api


def describe(api: APIRouter) -> dict[str, Any]:
    """The OpenAPI document of `api`."""
    document = get_openapi(
        title="Event pipeline: admin",
        version="1",
        description="Clients, deliveries, quarantine, replays and the audit log.",
        routes=api.routes,
    )
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    for path in document["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                # FastAPI describes the model under its own media type too; a problem has one only.
                if int(status) >= 400:
                    answer["content"] = {
                        "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
                    }
    document["components"]["schemas"].pop("HTTPValidationError", None)
    document["components"]["schemas"].pop("ValidationError", None)
    return document


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return _answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        unread = any(item["type"] == "json_invalid" for item in error.errors())
        faults = problems.faults_of(error.errors())
        return _answer(request, Problem(422, "the body is not JSON" if unread else "some values can't be", faults))

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: StarletteHTTPException) -> Response:
        headers = dict(error.headers or {})
        if request.url.path.startswith(API):
            return problems.response(Problem(error.status_code, str(error.detail)), headers)
        if site.is_page(request):
            return site.error_page(request, Problem(error.status_code, str(error.detail)))
        return JSONResponse({"detail": error.detail}, error.status_code, headers)

    @app.exception_handler(PipelineError)
    async def pipeline(request: Request, error: PipelineError) -> Response:
        log.warning("admin.request.failed", error_class=type(error).__name__, error=str(error))
        return _answer(request, Problem(503, str(error)))

    @app.exception_handler(Exception)
    async def crash(request: Request, error: Exception) -> Response:
        log.error("admin.request.crashed", error_class=type(error).__name__, exc_info=error)
        return _answer(request, Problem(500, "this is a fault of ours; the log of the admin has it"))


def _answer(request: Request, problem: Problem) -> Response:
    return site.error_page(request, problem) if site.is_page(request) else problems.response(problem)
