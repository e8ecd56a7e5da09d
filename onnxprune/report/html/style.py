"""The style sheet of all pages: light and dark, on paper, from telephones to wide screens.

Text has a contrast of at least 4.5 to its ground, marks of at least 3. Colours never stand alone:
what is worse also says so in words.
"""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "STYLE"]

#: Colours by name, on a light ground and on a dark one.
LIGHT = {
    "ground": "#f6f7f9", "card": "#ffffff", "line": "#dfe3e8", "text": "#16191d",
    "muted": "#56606c", "room": "#e9edf1", "before": "#8691a0", "after": "#0b7285",
    "good": "#0b6e4f", "bad": "#b42318", "third": "#9a6700", "fourth": "#7048a8",
    "fifth": "#b02a6f", "sixth": "#3b6ea5",
    "shade0": "#0a3d62", "shade1": "#155e86", "shade2": "#1f80a3", "shade3": "#3795ae",
    "shade4": "#4d9f9b", "shade5": "#5a9a5d",
}  # fmt: skip
DARK = {
    "ground": "#0e1217", "card": "#161b22", "line": "#2b323b", "text": "#e8ecf1",
    "muted": "#a3afbc", "room": "#252c35", "before": "#6f7d8e", "after": "#3ec6d8",
    "good": "#5fd6a6", "bad": "#ff8f85", "third": "#e3b341", "fourth": "#b794f0",
    "fifth": "#f28ab8", "sixth": "#7fb2e5",
    "shade0": "#d3f0c4", "shade1": "#a6ddb5", "shade2": "#77c8bb", "shade3": "#4fb0c3",
    "shade4": "#4a94c4", "shade5": "#6c86d0",
}  # fmt: skip


def _variables(colors: dict[str, str]) -> str:
    return ";".join(f"--{name}:{color}" for name, color in colors.items())


_MARKS = "\n".join(
    f".{name}{{--mark:var(--{name})}}"
    for name in LIGHT
    if name not in ("ground", "card", "line", "text", "muted", "room")
)
_BASE = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--text);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;
 overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
a{color:var(--after)}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:3px solid var(--after);
 outline-offset:2px}
.skip{position:absolute;left:-999px}
.skip:focus{left:16px;top:16px;background:var(--card);padding:8px 16px}
body>header,main,body>footer{max-width:1180px;margin:0 auto;padding:0 24px}
body>header{padding-top:40px}
h1{font-size:clamp(1.6rem,1.1rem + 2vw,2.5rem);line-height:1.15;margin:.1em 0 .3em;
 letter-spacing:-.02em;text-wrap:balance}
h2{font-size:1.3rem;line-height:1.25;margin:0 0 .3em;letter-spacing:-.01em}
h3{font-size:1.05rem;margin:1.4em 0 .3em}
p{margin:.4em 0;max-width:75ch}
.over{color:var(--muted);margin:0}
.lead{font-size:1.1rem}
.quiet{color:var(--muted);font-size:.9rem}
.bad{color:var(--bad)}.good{color:var(--good)}
main nav ul{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;margin:18px 0 0;padding:0}
nav a{text-decoration:none;font-size:.92rem}
nav a:hover{text-decoration:underline}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(230px,100%),1fr));gap:14px;
 margin:20px 0 0;padding:0;list-style:none}
.cards li{background:var(--card);border:1px solid var(--line);border-radius:12px;
 padding:16px 18px;border-top:4px solid var(--mark,var(--line))}
.cards b{display:block;font-size:1.7rem;line-height:1.2;letter-spacing:-.02em}
.cards .name{color:var(--muted);font-size:.88rem}
.cards .more{font-size:.9rem;color:var(--muted);margin:.3em 0 0}
.cards .bad b{color:var(--bad)}.cards .good b{color:var(--good)}
main>section{background:var(--card);border:1px solid var(--line);border-radius:14px;
 padding:22px 24px 24px;margin:18px 0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:8px 32px}
.scroll{overflow-x:auto;margin:.6em 0}
table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;color:var(--muted);font-size:.9rem;padding:0 0 6px}
th,td{padding:6px 12px 6px 0;text-align:right;vertical-align:middle;
 border-bottom:1px solid var(--line)}
th{font-weight:600}
thead th{color:var(--muted);font-weight:500;white-space:nowrap}
tbody th,th:first-child{text-align:left}
tbody th{font-weight:500;min-width:9em}
td.left,th.left{text-align:left}
td.left{min-width:9em}
td.wide,th.wide{width:34%;min-width:110px;text-align:left}
td.number{white-space:nowrap}
tr.chosen th::after{content:" \\2713";color:var(--good)}
svg{display:block;overflow:visible}
svg.bar{width:100%;height:12px}
.room{fill:var(--room)}
rect.before,rect.after,rect.good,rect.bad{fill:var(--mark)}
.marker{stroke:var(--text);stroke-width:2}
figure{margin:14px 0 4px;min-width:0}
figcaption{font-size:.95rem;display:flex;flex-wrap:wrap;gap:4px 20px;align-items:baseline}
figcaption b{font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;color:var(--muted);font-size:.88rem}
.key{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;
 background:var(--mark,transparent)}
.key.ring{border-radius:50%;border:2px solid var(--text)}
.key.round{border-radius:50%;border:2px solid var(--muted)}
.plot{padding:10px 10px 24px 62px}
.plot.flat{padding-left:8px}
.axis{font-size:.82rem;color:var(--muted);margin:6px 0 0}
.axis.along{text-align:center;max-width:none;margin:2px 0 0}
.grid line{stroke:var(--line)}
.grid text{fill:var(--muted);font-size:12px}
.line{fill:none;stroke:var(--mark);stroke-width:1.6}
circle.line{fill:var(--mark);stroke:var(--card);stroke-width:1.5}
path.front{stroke:var(--after);stroke-dasharray:4 4}
path.solid{fill:var(--mark)}
.area{fill:var(--mark);fill-opacity:.28;stroke:var(--mark);stroke-width:1.6}
.middle{stroke:var(--mark);stroke-width:2;stroke-dasharray:3 3}
.limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:6 4}
.dot.ring{fill:var(--card);stroke:var(--text)}
.dot{fill:var(--mark);stroke:var(--card);stroke-width:2}
.label{fill:var(--text);font-size:12px;paint-order:stroke;stroke:var(--card);stroke-width:4px}
details{margin:.6em 0}
summary{cursor:pointer;color:var(--after);width:fit-content}
pre{background:var(--room);border-radius:8px;padding:12px 14px;margin:.6em 0;
 white-space:pre-wrap;font:.9rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
main ul{padding-left:1.2em;margin:.4em 0}
main ul.cards{padding:0}
main li{margin:.25em 0}
body>footer{color:var(--muted);font-size:.88rem;padding-bottom:48px}
@media (max-width:560px){td.wide,th.wide{display:none}th,td{padding-right:9px}
 tbody th{min-width:8.5em}
 body>header,main,body>footer{padding:0 14px}
 body>header{padding-top:24px}main>section{padding:16px 14px;border-radius:10px}
 .plot{padding-left:52px}}
@media (min-width:1700px){body{font-size:17px}
 body>header,main,body>footer{max-width:1360px}}
"""
_PAPER = """
@media print{:root{%s}
 @page{margin:14mm}html{font-size:12px}
 body{font-size:1rem;background:#fff}nav,.skip{display:none}
 .cards{grid-template-columns:repeat(4,1fr);gap:8px}.cards li{padding:10px}
 .cards b{font-size:1.3rem}
 body>header,main,body>footer{max-width:none;padding:0}
 main>section{border:0;border-top:1px solid var(--line);border-radius:0;padding:12px 0;margin:0}
 .cards li,figure,tr{break-inside:avoid}h2,h3,caption{break-after:avoid}
 .key,pre{print-color-adjust:exact;-webkit-print-color-adjust:exact}
 details::details-content{content-visibility:visible;block-size:auto}summary{color:inherit}}
"""
STYLE = (
    f":root{{{_variables(LIGHT)}}}\n"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}\n"
    f"{_MARKS}{_BASE}{_PAPER % _variables(LIGHT)}"
)
