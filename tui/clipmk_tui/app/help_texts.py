"""What each pane shows, and what its signs and numbers mean: Markdown for the `HELP` of the panes. Plain texts.

Paragraphs, then lines like "- `sign` meaning"; the help screen adds the keys.
"""

from __future__ import annotations

from typing import Final

_MI: Final = """\
- `MI` log(V · L · m), natural logarithm: V concepts seen, L tied to the class, m of them mutual; 0 without any. \
This is the paper's formula, not a textbook mutual information.
"""
_CURVE: Final = """\
- `▇▇▅▂▁` dynamics: MI while the seen concepts are removed one at a time, the most important first. It falls when a \
mutual one is removed, and is 0 after the last.
"""
_AUC: Final = """\
- `AUC` mean of that curve, padded with zeros to a fixed length (16). Each step is worth about the same, so it tells \
how far down the ranking the last mutual concept is. Compare it only within one family of models, and under the same \
settings.
"""
_CHANCE: Final = """\
- `chance` the average MI and AUC if as many concepts were drawn at random.
"""
_P: Final = """\
- `p` probability that random concepts share at least this many (hypergeometric). Small: the two encoders agree by \
more than luck. About 1: this overlap says nothing.
"""

IMAGE: Final = """\
The picture, with two pixels in every character, and over it in colour the parts that the model's own image features \
separate. Number and colour of a part are the same in picture, legend and tree.

The overlay switches between all parts, the parts on which the concept under the tree's cursor was seen, and the \
plain picture. Parts of concepts that are left out are blurred, as the model then sees them.

- `■ 1` part 1, with the descriptor that fits it best.
- `plain area` background: belongs to no part.
"""

MODELS: Final = """\
The models that can explain the image. Switching keeps image, class and cursor where they are, so that two models \
can be compared by going back and forth.

Two or more marked models can be compared side by side. Filter by any words: a name, a family, 224px, cached.

- `▸` the model that explains.
- `✓` marked for comparison.
- `embedded` comes with clipmk; knows drawn classes only.
- `yours` registered in the config file.
- `cached` on this machine.
- `download` not on this machine; needs --download.
- `224px` side of the square image that the model encodes.
"""

PREDICTIONS: Final = """\
The classes that the model finds most likely. A probability is a softmax over the vocabulary's classes of the cosine \
between image and class name, times the model's scale: it says which of these classes fits best, not whether any of \
them does.

Moving the cursor asks "why not this class?": the tree then shows what speaks for that class instead.

- `✓` the true class, where it is known (from a folder's name or a list).
- `a → b` before and after concepts are left out and their parts blurred.
- `▲ ▼ =` by how many percentage points the class rose or fell.
- `· –` a class asked about that is not among those reported: no rank, no probability.
"""

CONCEPTS: Final = (
    """\
Why this class? A concept is a short description that could be said of many classes. The vision encoder names the \
concepts it sees on the parts of the image; the language encoder names those nearest to the class. What both name is \
the knowledge they share.

Leaving a concept out computes MI and AUC again at once, as if it had not been seen, and blurs its parts to rank the \
classes again. Opening a concept lists the parts it was seen on.

- `∩` mutual: seen in the image, and tied to the class.
- `◐` vision only: seen in the image, but not tied to the class.
- `◑` language only: tied to the class, but not seen.
- `○` left out by you.
- `▇▇▇ 0.312` importance of a seen concept: how well it fits image and part (a scaled cosine). Only the order and \
the differences mean something.
- `0.831` of a concept that was not seen, the cosine between it and the class name.
- `similarity` of a part, the cosine between the part and the concept.
"""
    + _MI
    + _CURVE
    + _AUC
    + _CHANCE
    + _P
)

COMPARISON: Final = (
    """\
The marked models side by side, a column each; a row for each concept, those that are mutual for most models first. \
Each model explains its own prediction, or all of them one common class.

Models of one family are next to each other. AUC depends on the architecture: it is never ranked across families.

- `∩` mutual for this model: seen, and tied to the class it explains. With its importance.
- `◐` seen by this model, but not tied to the class.
- `◑` tied to the class by this model, but not seen.
- `·` neither: the model does not name this concept. Blank: the model has not answered.
- `2/3` agreed: the concept is mutual for two of three models; beside top-1: they predict the same class.
- `a / b` found, and expected by chance.
- `▲` the best AUC of its family, where the table has several of one.
"""
    + _MI
    + _CURVE
    + _AUC
    + _P
)
