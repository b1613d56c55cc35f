"""How figures become ratios and verdicts. Run with `cd tests/bench && python3 -m unittest`."""

import unittest

import table


def results():
    titles = {"floodmesh": "floodmesh", "naive": "naive", "a": "A", "b": "B"}
    made = table.Results(titles, peers=["a", "b"])
    rounds = [(4, 1, 2, 3), (6, 3, 2, 1), (10, 2, 5, 1)]
    for number, (mine, naive, a, b) in enumerate(rounds, start=1):
        for name, value in (("floodmesh", mine), ("naive", naive), ("a", a), ("b", b)):
            made.add(number, "tcp", name, {"gbps": value})
    return made


class Tables(unittest.TestCase):
    def test_a_ratio_is_the_median_of_each_rounds_own(self):
        # 4, 2 and 5: the median is 4, while the ratio of the medians would be 3.
        self.assertEqual(results().ratios("tcp", "gbps", "floodmesh", "naive"), [4, 2, 5])
        self.assertIn("4 [2-5]", table.tables(results()))

    def test_a_line_is_compared_with_the_bare_wire_of_the_pair(self):
        made = results()
        made.add(1, "line", "floodmesh", {"gbps": 2})
        made.add(1, "tcp", "raw", {"gbps": 40})
        self.assertEqual(made.ratios("line", "gbps", "floodmesh", "raw", "tcp"), [0.05])
        self.assertRegex(table.tables(made), r"line of 3: TCP, Gbit/s +\| 2 +\| 0\.05 ")

    def test_a_round_that_one_side_lacks_counts_for_no_ratio(self):
        made = results()
        made.add(4, "tcp", "floodmesh", {"gbps": 100})
        self.assertEqual(len(made.ratios("tcp", "gbps", "floodmesh", "naive")), 3)

    def test_the_best_peer_is_a_peer_by_its_median_in_the_figures_own_direction(self):
        self.assertEqual(results().best_peer("tcp", "gbps", lower_is_better=False), "a")
        self.assertEqual(results().best_peer("tcp", "gbps", lower_is_better=True), "b")
        self.assertIsNone(results().best_peer("line", "gbps", lower_is_better=False))

    def test_targets_are_judged_to_the_goal_then_to_the_must(self):
        higher = table.Target("", "", "", "", must=2, goal=3)
        lower = table.Target("", "", "", "", must=2, goal=1, lower_is_better=True)
        for target, value, verdict in [
            (higher, 3, "goal"), (higher, 2.9, "must"), (higher, 1.9, "**no**"),
            (lower, 1, "goal"), (lower, 1.1, "must"), (lower, 2.1, "**no**"),
        ]:
            self.assertEqual(table._verdict(target, value), verdict, (target, value))

    def test_what_was_not_measured_makes_no_table(self):
        self.assertEqual(table.tables(table.Results({"floodmesh": "floodmesh"}, [])), "")


if __name__ == "__main__":
    unittest.main()
