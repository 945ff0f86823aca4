"""POST: one object or several, partial failure, what is answered (§0, §2.4)."""
from . import errors
from .call import bound_elements
from .errors import HaloError


class Poster:
    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store
        self.switches = platform.switches

    def post(self, resource, call, raw):
        """The value of the answer."""
        elements = bound_elements(resource, call, raw)
        answers = self.write(resource, call, elements)
        return self._answer(answers, len(elements))

    def write(self, resource, call, elements):
        """Stores the objects and returns them as answered (§10 gap 2)."""
        way = self.switches["halo_partial_array"]
        answers, begin = [], self.store.mark()
        for values in elements:
            mark, events = self.store.mark(), len(call.events)
            try:
                answers.append(self._one(resource, call, values, mark, events))
            except HaloError:
                self._undo(call, mark, events)
                if way == "skip" and len(elements) > 1:
                    continue
                if way == "atomic":
                    self._undo(call, begin, 0)
                call.flush()
                raise
        call.flush()
        if not answers:
            raise errors.string_400("No object was accepted")
        return answers

    def _undo(self, call, mark, events):
        self.store.rollback(mark)
        del call.events[events:]

    def _one(self, resource, call, values, mark, events):
        row = resource.write(call, values)
        shown = resource.full(row, call)
        warning = self.switches["halo_warning"]
        if warning:
            shown["_warning"] = warning
        if values.get("_validateonly") is True:     # a dry run (§2.4 [A])
            self._undo(call, mark, events)
        return shown

    def _answer(self, answers, sent):
        """One bare object for one (§0 rule 5 [L]); several: by a switch."""
        way = self.switches["halo_many_answer"]
        if sent == 1 or way == "first":
            return answers[0]
        return answers[-1] if way == "last" else answers
