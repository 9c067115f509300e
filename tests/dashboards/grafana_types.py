"""Grafana's own TypeScript types for dashboards, and a check of JSON against them.

A JSON file that is imported loses its literal types, so each part of a dashboard is written out as
a constant of the type that it must have; a compiler that knows Grafana's package is the judge.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from dashboards.drawing import run_node

__all__ = ["check_types", "install_types"]

PACKAGES: Final = {"@grafana/schema": "13.2.3", "typescript": "5.9.3"}
_PANELS: Final = ("heatmap", "stat", "table", "text", "timeseries")

_PREAMBLE: Final = """\
import type * as D from "./node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen";
{imports}

// JSON has the values of an enumeration, never its names.
type Plain<T> = unknown extends T ? T
  : T extends string ? `${{T}}`
  : T extends number | boolean | null | undefined ? T
  : T extends Array<infer U> ? Array<Plain<U>>
  : T extends object ? {{ [K in keyof T]: Plain<T[K]> }}
  : T;

interface Sql {{
  datasource: D.DataSourceRef; editorMode: "code"; format: "table"; rawQuery: boolean;
  rawSql: string; refId: string;
}}
interface Target {{
  datasource: D.DataSourceRef; editorMode: "code" | "builder"; exemplar: boolean; expr: string;
  format: "time_series" | "table" | "heatmap"; instant?: boolean; range?: boolean; refId: string;
  legendFormat?: string;
}}
// What the Prometheus data source adds to an annotation.
interface Asked {{
  expr: string; step: string; titleFormat: string; textFormat: string; tagKeys: string;
  useValueForTime?: boolean;
}}
type Fields<C> = Omit<D.FieldConfigSource, "defaults"> & {{
  defaults: Omit<D.FieldConfig, "custom"> & {{ custom?: C }};
}};
type PanelOf<O, C> = Plain<Omit<D.Panel, "options" | "fieldConfig" | "targets"> & {{
  options: O; fieldConfig: Fields<C>; targets: Array<Target> | Array<Sql>;
}}>;
type Head = Plain<Omit<D.Dashboard, "panels" | "templating" | "annotations" | "links">>;
"""


def install_types(folder: Path) -> Path:
    """Have the types in ``folder``; where npm cannot get them, skip at home and fail in CI."""
    wanted = {"private": True, "dependencies": PACKAGES}
    (folder / "package.json").write_text(json.dumps(wanted))
    asked = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = run_node("npm", asked, folder)
    if done.returncode != 0:
        reason = f"npm could not get {', '.join(PACKAGES)}: {done.stderr[-300:]}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and CI must have them")
        pytest.skip(reason)
    return folder


def check_types(folder: Path, dashboard: dict[str, Any]) -> str:
    """What the compiler has against this dashboard; empty when it has nothing."""
    (folder / "dashboard.ts").write_text(_write_program(dashboard), encoding="utf-8")
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext"]
    arguments = [str(compiler), *flags, "--moduleResolution", "bundler", "dashboard.ts"]
    done = run_node("node", arguments, folder)
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "error TS" in said, said
    return said if done.returncode else ""


def _write_program(dashboard: dict[str, Any]) -> str:
    names = {"stat": "Stat", "heatmap": "Heatmap", "table": "Table", "timeseries": "TimeSeries"}
    names["text"] = "Text"
    base = "./node_modules/@grafana/schema/dist/types/raw/composable"
    imports = "\n".join(
        f'import type * as {names[kind]} from "{base}/{kind}/panelcfg/x/types.gen";'
        for kind in _PANELS
    )
    rest = dict(dashboard)
    panels, variables = rest.pop("panels"), rest.pop("templating")["list"]
    annotations, links = rest.pop("annotations")["list"], rest.pop("links")
    lines = [_PREAMBLE.format(imports=imports), _declare("head", "Head", rest)]
    for panel in panels:
        kind = panel["type"]
        own = names.get(kind)
        fields = f"{own}.FieldConfig" if kind != "stat" else "never"
        asked = "Plain<D.RowPanel>" if own is None else f"PanelOf<{own}.Options, {fields}>"
        if kind == "text":  # it asks nobody
            asked = "Plain<Omit<D.Panel, 'options'> & { options: Text.Options }>"
        lines.append(_declare(f"panel{panel['id']}", asked, panel))
    lines.append(_declare("variables", "Array<Plain<D.VariableModel>>", variables))
    lines.append(_declare("annotations", "Array<Plain<D.AnnotationQuery & Asked>>", annotations))
    lines.append(_declare("links", "Array<Plain<D.DashboardLink>>", links))
    return "\n".join(lines)


def _declare(name: str, type_: str, value: object) -> str:
    return f"export const {name}: {type_} = {json.dumps(value)};"
