"""Halo: relations between assets (§2.7)."""
from halo_support import APPLICATION, HaloCase, NOT_THERE, SERVER


class Relations(HaloCase):
    def setUp(self):
        super().setUp()
        self.a, self.b, self.c = (self.asset(t)["id"] for t in "ABC")

    def update(self, key, **lists):
        return self.make("Asset", id=key, **lists)

    def rows(self):
        """(parent, child, kind, sibling) of all relations."""
        return sorted((r["parent_id"], r["child_id"], r["relationship_id"],
                       r["sibling_id"]) for r in self.dump("AssetRelation"))

    def add(self, other, kind=0, key=None):
        return self.update(key or self.a, add_child_assets=[
            {"id": other, "relationship_id": kind}])

    def test_2_7_add_edit_delete(self):
        self.update(self.a, add_child_assets=[{"id": self.b,
                                               "relationship_id": 2}],
                    add_parent_assets=[{"id": self.c}])
        self.assertEqual(self.rows(), [(self.a, self.b, 2, False),
                                       (self.c, self.a, 0, False)])
        self.update(self.a, edit_child_assets=[{"id": self.b,
                                                "relationship_id": 3}],
                    edit_parent_assets=[{"id": self.b, "relationship_id": 1}])
        self.assertEqual(self.rows(), [(self.a, self.b, 3, False),
                                       (self.c, self.a, 0, False)])
        self.update(self.a, delete_child_assets=[{"id": self.b},
                                                 {"id": self.c}])
        self.assertEqual(self.rows(), [(self.c, self.a, 0, False)])
        self.update(self.a, delete_parent_assets=[{"id": self.c}])
        self.assertEqual(self.rows(), [])

    def test_2_7_siblings(self):
        self.update(self.a, add_sibling_assets=[{"id": self.b}])
        self.assertEqual(self.rows(), [(self.a, self.b, 0, True)])
        for one, other in ((self.a, self.b), (self.b, self.a)):
            shown = self.full(one)
            self.assertEqual([(s["id"], s["sibling_id"])
                              for s in shown["sibling_assets"]],
                             [(other, True)])
            self.assertEqual(shown["child_assets"], [])
        self.update(self.a, delete_child_assets=[{"id": self.b}])
        self.assertEqual(len(self.rows()), 1)
        self.update(self.b, delete_sibling_assets=[{"id": self.a}])
        self.assertEqual(self.rows(), [])
        self.update(self.a, add_sibling_assets=[{"id": self.b}])
        self.update(self.a, delete_sibling_assets=[{"id": self.b}])
        self.assertEqual(self.rows(), [])

    def test_2_7_one_relation_per_ordered_pair(self):
        """§10 gap 1: what add_ does to a pair that is there"""
        self.add(self.b, 1)
        self.add(self.b, 2)
        self.assertEqual(self.rows(), [(self.a, self.b, 2, False)])
        self.add(self.a, 3, key=self.b)
        self.assertEqual(self.rows(), [(self.a, self.b, 2, False),
                                       (self.b, self.a, 3, False)])
        self.switch(relation_add="keep")
        self.add(self.b, 1)
        self.assertEqual(self.rows()[0][2], 2)
        self.switch(relation_add="refuse")
        self.exception("already exists", "Asset", {
            "id": self.a, "add_child_assets": [{"id": self.b}]})

    def test_2_7_older_builds_do_not_know_add(self):
        self.switch(build="2025")
        self.add(self.b)
        self.assertEqual(self.rows(), [])
        self.update(self.a, child_assets=[{"id": self.b}, {"id": self.c}])
        self.assertEqual(len(self.rows()), 2)
        self.update(self.a, child_assets=[{"id": self.c,
                                           "relationship_id": 1}])
        self.assertEqual(self.rows(), [(self.a, self.c, 1, False)])
        self.update(self.a, edit_child_assets=[{"id": self.c}],
                    delete_child_assets=[{"id": self.c}])
        self.assertEqual(self.rows(), [(self.a, self.c, 1, False)])
        self.update(self.a, parent_assets=[{"id": self.b}])
        self.update(self.a, child_assets=[])
        self.assertEqual(self.rows(), [(self.b, self.a, 0, False)])

    def test_2_7_whole_lists(self):
        """§10 gap 1"""
        self.add(self.b)
        self.update(self.a, child_assets=[{"id": self.c}])
        self.assertEqual(self.rows(), [(self.a, self.b, 0, False)])
        self.switch(relation_lists="add")
        self.update(self.a, child_assets=[{"id": self.c}])
        self.assertEqual(len(self.rows()), 2)
        self.switch(relation_lists="replace")
        self.update(self.a, child_assets=[{"id": self.c}])
        self.assertEqual(self.rows(), [(self.a, self.c, 0, False)])
        self.switch(build="2025", relation_lists="ignore")
        self.update(self.a, child_assets=[])
        self.assertEqual(len(self.rows()), 1)

    def test_2_7_item_shape(self):
        """§10 gap 1"""
        self.update(self.a, add_child_assets=[{"child_id": self.b}])
        self.assertEqual(self.rows(), [])
        self.switch(relation_item="ends")
        self.add(self.b)
        self.assertEqual(self.rows(), [])
        self.update(self.a, add_child_assets=[{"child_id": self.b}],
                    add_parent_assets=[{"parent_id": self.c}])
        self.assertEqual(self.rows(), [(self.a, self.b, 0, False),
                                       (self.c, self.a, 0, False)])

    def test_2_7_ends_and_kinds_exist(self):
        for item in ({"id": NOT_THERE}, {"id": self.b,
                                         "relationship_id": 77}):
            self.exception("(547)", "Asset", {"id": self.a, "notes": "x",
                                              "add_child_assets": [item]})
        self.assertNotIn("notes", self.full(self.a))
        self.add(self.a)                    # itself: nothing happens
        self.assertEqual(self.rows(), [])
        self.switch(bad_reference="store")
        self.add(NOT_THERE)
        self.assertEqual(self.stats()["orphans"]["first"][0]["resource"],
                         "AssetRelation")

    def test_2_7_kinds_between_types(self):
        self.load(RelationRule=[{"upstream_type": SERVER, "relationship": 2,
                                 "downstream_type": SERVER}])
        self.exception("not allowed", "Asset", {
            "id": self.a, "add_child_assets": [
                {"id": self.b, "relationship_id": 1}]})
        self.add(self.b, 2)
        other = self.asset("D", assettype_id=APPLICATION)["id"]
        self.add(other, 1)
        self.assertEqual(len(self.rows()), 2)

    def test_2_7_kinds_are_a_lookup(self):
        """§10 gap 1: its number"""
        def names(number):
            return [r["name"] for r in self.get("Lookup", lookupid=number)]
        self.assertEqual(names(87), ["Depends on", "Runs on", "Hosted on"])
        self.switch(relation_lookup=93)
        self.assertEqual(names(87), [])
        self.assertEqual(names(93), ["Depends on", "Runs on", "Hosted on"])
        self.assertIn(93, [r["id"] for r in self.get("Lookup", lookupid=11)])

    def test_2_7_read_back(self):
        self.add(self.b, 2)
        self.update(self.b, add_child_assets=[{"id": self.c}])
        child, = self.full(self.a)["child_assets"]
        self.assertEqual(
            (child["id"], child["relationship_id"], child["parent_id"],
             child["child_id"], child["sibling_id"],
             child["inventory_number"]),
            (self.b, 2, self.a, self.b, False, "B"))
        parent, = self.full(self.b)["parent_assets"]
        self.assertEqual(parent["id"], self.a)
        self.assertNotIn("child_assets", self.get("Asset/%d" % self.a))
        self.assertEqual(self.tags(linkedto_id=self.b), ["A", "C"])
        self.assertEqual(self.tags(linkedto_id=self.a), ["B"])
        for name in ("includehierarchy", "includediagramdetails"):
            shown = self.get("Asset/%d" % self.a, **{name: "true"})
            self.assertEqual((shown["descendant_count"],
                              shown["ascendant_count"]), (2, 0))
            self.assertEqual([r["id"] for r in shown["descendant_assets"]],
                             [self.b, self.c])

    def test_7_relations_to_what_an_agent_does_not_see(self):
        other = self.asset("D", client_id=1)["id"]
        self.add(self.b)
        self.add(other)
        self.load(Agent=[{"id": 1, "clients": [self.client]}])
        self.assertEqual([c["id"] for c in self.full(self.a)["child_assets"]],
                         [self.b])
        shown = self.get("Asset/%d" % self.a, includehierarchy="true")
        self.assertEqual(shown["descendant_count"], 1)

    def test_2_7_circles_end(self):
        self.add(self.b)
        self.add(self.a, key=self.b)
        shown = self.get("Asset/%d" % self.a, includehierarchy="true")
        self.assertEqual((shown["descendant_count"],
                          shown["ascendant_count"]), (1, 1))

    def test_2_7_deleting_an_end(self):
        self.add(self.b)
        self.update(self.c, add_child_assets=[{"id": self.a}])
        self.call("DELETE", "Asset/%d" % self.a)
        self.assertEqual(self.rows(), [])

    def test_2_7_no_linked_assets(self):
        self.update(self.a, linked_assets=[{"asset_id": self.b,
                                            "relationship_type_id": 1}],
                    related_assets=[{"id": self.b}])
        self.assertEqual(self.rows(), [])

    def test_2_4_a_refused_array_brings_relations_back(self):
        self.add(self.b)
        self.switch(partial_array="atomic")
        self.bad("Asset", {"id": self.a, "notes": "x",
                           "delete_child_assets": [{"id": self.b}]},
                 {"client_id": 1})
        self.assertEqual(self.rows(), [(self.a, self.b, 0, False)])

    def test_2_4_a_refused_create_leaves_no_relation(self):
        self.bad("Asset", {"assettype_id": SERVER, "client_id": self.client,
                           "add_child_assets": [{"id": self.b},
                                                {"id": NOT_THERE}]})
        self.assertEqual(self.rows(), [])
        self.assertEqual(len(self.dump("Asset")), 3)
