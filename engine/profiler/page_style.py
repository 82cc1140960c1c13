"""The style sheet of a report: light and dark by the reader's system, and paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """\
:root {
  color-scheme: light dark;
  --ground: #fbfbf9; --panel: #ffffff; --ink: #1b1d22; --soft: #60656f; --faint: #e6e7e3; --rule: #d3d5cf;
  --good: #1f7a4d; --bad: #c0392b; --accent: #2f5fb3; --accent-soft: #2f5fb326;
  --decode: #8a96a8; --detect: #2f5fb3; --track: #5b9bd5; --identify: #8ecae6; --refine: #2a9d8f; --crop: #84b26a;
  --generate: #e9a03b; --enhance: #d9694a; --mask: #b5838d; --paste: #8d5fb0; --encode: #5c6470; --queue: #d9dbd5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15171b; --panel: #1c1f25; --ink: #e9eaec; --soft: #9ba1ac; --faint: #2b2f37; --rule: #3a3f49;
    --good: #58c48b; --bad: #ff7a6b; --accent: #7aa7f0; --accent-soft: #7aa7f02e;
    --decode: #74808f; --detect: #6f9ce8; --track: #8fbdec; --identify: #b3dcef; --refine: #4fbfb0; --crop: #9cc985;
    --generate: #f0b559; --enhance: #ec8a6d; --mask: #cf9fa9; --paste: #ae86cf; --encode: #8e97a5; --queue: #343943;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 Inter, "Segoe UI", system-ui, -apple-system, "Helvetica Neue", Arial, sans-serif;
  font-feature-settings: "tnum" 1, "cv11" 1; -webkit-font-smoothing: antialiased;
}
main { max-width: 1060px; margin: 0 auto; padding: 44px 28px 64px; }
header p { margin: 0; color: var(--soft); }
.kicker { font-size: 12px; letter-spacing: .09em; text-transform: uppercase; color: var(--soft); }
h1 { margin: 6px 0 8px; font-size: 29px; line-height: 1.22; font-weight: 650; letter-spacing: -.018em;
  max-width: 30em; }
h2 { margin: 46px 0 2px; font-size: 18px; font-weight: 640; letter-spacing: -.008em; }
h2 + p { margin: 0 0 12px; color: var(--soft); max-width: 62em; }
.ok { color: var(--good); } .over { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); margin: 28px 0 0;
  background: var(--panel); border: 1px solid var(--rule); border-radius: 10px; overflow: hidden; }
.tiles div { padding: 13px 16px 14px; box-shadow: 0 0 0 .5px var(--rule); }
.tiles dt { font-size: 12.5px; color: var(--soft); }
.tiles dd { margin: 1px 0 0; font-size: 23px; font-weight: 620; letter-spacing: -.015em; white-space: nowrap; }
.tiles small { font-size: 13px; font-weight: 450; color: var(--soft); letter-spacing: 0; }
figure { margin: 0; padding: 14px 12px 6px; background: var(--panel); border: 1px solid var(--rule);
  border-radius: 10px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
.trio { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 14px; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 4px 8px 8px 48px; font-size: 13px;
  color: var(--soft); }
.trio figcaption { padding: 0 8px 2px; }
.key { display: inline-block; width: 11px; height: 11px; margin-right: 6px; border-radius: 2.5px;
  vertical-align: -1px; }
.key.thin { height: 3px; vertical-align: 3px; }
text { font-family: inherit; font-size: 12px; fill: var(--soft); }
.unit { font-style: italic; } .hidden { display: none; }
.grid { stroke: var(--faint); } .axis { stroke: var(--rule); }
.budget { stroke: var(--bad); stroke-width: 1.4; stroke-dasharray: 5 4; } .budget-label { fill: var(--bad); }
.budget-label, .unit { paint-order: stroke; stroke: var(--panel); stroke-width: 4px; }
.line { fill: none; stroke-width: 1.4; stroke-linejoin: round; } .area { stroke: none; opacity: .9; }
.line.mean { stroke: var(--accent); stroke-width: 1.8; } .area.mean { fill: var(--accent-soft); }
.line.most { stroke: var(--soft); stroke-width: .9; opacity: .85; }
.drop { fill: var(--bad); } .bar { fill: var(--accent); } .bar.over { fill: var(--bad); }
.mark { stroke: var(--soft); stroke-width: .9; stroke-dasharray: 2 2; } .mark-label, .row, .sum { fill: var(--ink); }
.inside { fill: #fff; font-size: 11.5px; }
.on-generate, .on-crop, .on-track, .on-identify, .on-queue { fill: #1b1d22; }
.mark-label { paint-order: stroke; stroke: var(--panel); stroke-width: 4px; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
.wide { overflow-x: auto; }
th { text-align: right; font-weight: 500; font-size: 12.5px; color: var(--soft); padding: 6px 10px;
  border-bottom: 1px solid var(--rule); }
td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 2px; }
tr.sum-row td { font-weight: 600; border-top: 1px solid var(--rule); }
tr.beside td { color: var(--soft); }
.share { display: inline-block; height: 8px; border-radius: 2px; vertical-align: 0; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 10px 28px;
  margin: 12px 0 0; font-size: 14px; }
dl.facts dt { color: var(--soft); font-size: 12.5px; } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
ul.notes { margin: 8px 0 0; padding-left: 18px; color: var(--soft); font-size: 14px; }
footer { margin-top: 46px; padding-top: 14px; border-top: 1px solid var(--rule); color: var(--soft);
  font-size: 13px; }
@media (prefers-color-scheme: dark) { .inside { fill: #15171b; } .on-queue { fill: var(--ink); } }
@media print {
  :root { --ground: #fff; --panel: #fff; }
  main { padding: 0; max-width: none; } body { font-size: 10.5pt; }
  figure, .tiles, tr, dl.facts div { break-inside: avoid; } h2 { break-after: avoid; margin-top: 26px; }
  h2 + p { break-after: avoid; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
