"""
The bench's figures: rounds of both sides, their ratio, the target of each, a table and JSON.

A ratio is Nightmail's figure over Postfix's (or the bare disk's), round by round; its median meets a target, and it is missed only when the whole
range misses it. Between the two it is open: more rounds or a quieter machine would tell.
"""
import json
import statistics


def number(value):
    if value >= 10000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


class Figure:
    def __init__(self, section, name, unit, target=None, lower_is_better=False, note=None, against="postfix"):
        self.section, self.name, self.unit, self.target, self.lower = section, name, unit, target, lower_is_better
        self.values = {"nightmail": [], against: []}
        self.note = note
        self.failed = None

    def add(self, side, value):
        self.values[side].append(value)

    def complete(self):
        return self.failed is None and all(self.values.values())

    def ratios(self):
        # Zero CPU ticks are less than one tick, not nothing.
        return [a / max(b, 1e-9) for a, b in zip(*self.values.values())]

    def verdict(self):
        if not self.complete():
            return "failed"
        if self.target is None:
            return ""
        ratios = self.ratios()
        median = statistics.median(ratios)
        if self.lower:
            return "met" if median <= self.target else "missed" if min(ratios) > self.target else "open"
        return "met" if median >= self.target else "missed" if max(ratios) < self.target else "open"

    def line(self):
        if not self.complete():
            return f"  {self.name:<34} {self.failed or 'not measured'}"
        cells = []
        for values in self.values.values():
            spread = f"({number(min(values))}-{number(max(values))})" if len(values) > 1 else ""
            cells.append(f"{number(statistics.median(values)):>7} {spread:<17}")
        ratios = self.ratios()
        spread = f"({number(min(ratios))}-{number(max(ratios))})" if len(ratios) > 1 else ""
        target = "" if self.target is None else f"{'<=' if self.lower else '>='}{self.target:g}"
        line = f"  {self.name:<34} {cells[0]} {cells[1]} {number(statistics.median(ratios)):>6}x {spread:<14} {target:<6} {self.verdict()}"
        return line.rstrip() + (f"  [{self.note}]" if self.note else "")

    def as_json(self):
        out = {"section": self.section, "name": self.name, "unit": self.unit, "rounds": self.values, "lower_is_better": self.lower}
        if self.note:
            out["note"] = self.note
        if self.failed:
            out["failed"] = self.failed
        if self.complete():
            ratios = self.ratios()
            out.update(median={k: statistics.median(v) for k, v in self.values.items()}, ratio=statistics.median(ratios),
                       ratio_range=[min(ratios), max(ratios)])
        out.update(target=self.target, verdict=self.verdict())
        return out


def heading(section, unit, sides):
    print(f"\n{section} ({unit})", flush=True)
    print(f"  {'':<34} {' '.join(f'{side:<25}' for side in sides)} {'ratio':<22} target", flush=True)


class Report:
    def __init__(self):
        self.figures = []
        self.section = None

    def new(self, *args, **kwargs):
        figure = Figure(*args, **kwargs)
        self.figures.append(figure)
        return figure

    def show(self, figure):
        if figure.section != self.section:
            self.section = figure.section
            heading(figure.section, figure.unit, figure.values)
        print(figure.line(), flush=True)

    def show_summary(self):
        print("\nTargets")
        for verdict in ("met", "open", "missed", "failed"):
            found = [f for f in self.figures if f.verdict() == verdict]
            print(f"  {verdict:<7} {len(found)}")
            if verdict != "met":
                for f in found:
                    print(f"          {f.section}: {f.name.strip()}")

    def write(self, path, about):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({**about, "figures": [f.as_json() for f in self.figures]}, indent=1) + "\n")
        fresh.rename(path)
