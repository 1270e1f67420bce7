"""Walsh-Hadamard transforms, natural (Hadamard) order, unnormalised: ``y = H·x`` in additions only.

`spec` has the parameters and the choice of the form; `parallel`, `streaming`, `folded` and `serial`
are the forms, from the fastest to the smallest; `frame` pads and crops the vectors of the streaming
forms.
"""

from mulfree.units.wht.spec import FORMS, TransformSpec, WHT2DSpec, WHTSpec

__all__ = ["FORMS", "TransformSpec", "WHT2DSpec", "WHTSpec"]
