"""Each switch of the Halo side is tried both ways by some test."""
import glob
import os
import re
import unittest

from support import shared

HERE = os.path.dirname(os.path.abspath(__file__))


class EverySwitch(unittest.TestCase):
    def setUp(self):
        self.text = ""
        for name in glob.glob(os.path.join(HERE, "test_halo_*.py")):
            if not name.endswith("test_halo_switches.py"):
                with open(name, encoding="utf-8") as handle:
                    self.text += handle.read()
        self.listing = {n: s for n, s in
                        shared().sim("GET", "switches").items()
                        if n.startswith("halo_")}

    def values(self, name):
        """What tests set a switch to, as text."""
        short = re.escape(name[len("halo_"):])
        found = re.findall(r'\b%s"?[=:]\s*("[^"]*"|[\w.]+)' % short, self.text)
        if name in ("halo_rate_requests", "halo_rate_seconds"):
            found += re.findall(r"self\.limit\((\w+)", self.text)
        return {value.strip('"') for value in found}

    def test_10_switch_is_set_by_a_test(self):
        for name, switch in self.listing.items():
            default = str(switch["default"])
            others = self.values(name) - {default}
            self.assertTrue(others, "no test sets %s" % name)

    def test_10_every_choice_but_the_default_is_set(self):
        for name, switch in self.listing.items():
            loops = {w for w in re.findall(r'"([\w]+)"', self.text)}
            for choice in switch.get("choices", []):
                if choice != switch["default"]:
                    self.assertTrue(choice in self.values(name)
                                    or choice in loops, (name, choice))

    def test_every_switch_says_where_it_is_from(self):
        for name, switch in self.listing.items():
            self.assertRegex(switch["meaning"], r"§|^setting|a tenant", name)

    def test_10_every_gap_has_a_switch(self):
        text = " ".join(s["meaning"] for s in self.listing.values())
        for gap in range(1, 9):
            self.assertIn("gap %d" % gap, text)
