"""The look of report.html."""

STYLE = """
:root { --paper: #f6f7f9; --sheet: #ffffff; --ink: #24292f; --soft: #626b76; --edge: #dfe3e8; --bad: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0f1216; --sheet: #171b21; --ink: #d5dbe3; --soft: #929ca8; --edge: #2a3038; --bad: #ff9a5c; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 15px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 40px 20px 60px; }
header h1 { margin: 0; font-size: 28px; letter-spacing: -0.01em; }
header p { margin: 2px 0 24px; color: var(--soft); }
h2 { margin: 0 0 12px; font-size: 16px; }
section, .card { background: var(--sheet); border: 1px solid var(--edge); border-radius: 10px; }
section { padding: 18px 20px; margin-top: 16px; }
section p { margin: 8px 0; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; }
.card { padding: 14px 16px; }
.card b { display: block; font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: 13px; }
.card.bad b { color: var(--bad); }
img { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 28px 6px 0; text-align: left; border-bottom: 1px solid var(--edge); }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
tbody tr:last-child td { border-bottom: 0; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; margin: 12px 0 0; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
"""
