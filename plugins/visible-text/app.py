"""What a person reads on a page: keywords, how dense they are, and how like a baseline the text is. A page that was defaced
keeps its status and often its title; its text is another."""

import re
from html.parser import HTMLParser

import wit_world

import monmon

# Words in a row that make a shingle (A. Broder, "On the resemblance and containment of documents", 1997).
SHINGLE = 3
# Of a page, at most; a page of this length has some 100,000 words.
TEXT_CHARS_MAX = 500_000
# What stands in these is not read by anyone.
HIDDEN = {"script", "style", "template", "noscript", "head", "svg", "iframe", "object"}
# They have no end tag, so they never hide what follows.
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
BLOCKS = {"p", "div", "li", "td", "th", "tr", "br", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "option"}
WORD = re.compile(r"\w+")


class Reader(HTMLParser):
    """Gathers the text that is shown."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts = []
        self.length = 0
        # The element whose content is not shown, and how many of its kind are open within it.
        self.hidden = None
        self.depth = 0

    def handle_starttag(self, tag, attributes):
        if tag in BLOCKS:
            self.parts.append(" ")
        if tag in VOID:
            return
        names = dict(attributes)
        style = (names.get("style") or "").replace(" ", "").lower()
        if tag == "body":
            # A head that was never closed hides no body.
            self.hidden = None
        elif self.hidden:
            self.depth += tag == self.hidden
        elif tag in HIDDEN or "hidden" in names or "display:none" in style:
            self.hidden, self.depth = tag, 1

    def handle_endtag(self, tag):
        if tag == self.hidden:
            self.depth -= 1
            if self.depth == 0:
                self.hidden = None
        if tag in BLOCKS:
            self.parts.append(" ")

    def handle_data(self, data):
        if not self.hidden and self.length < TEXT_CHARS_MAX:
            self.parts.append(data[: TEXT_CHARS_MAX - self.length])
            self.length += len(data)


def words_of(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    return WORD.findall("".join(reader.parts).casefold())


def shingles(words):
    if len(words) < SHINGLE:
        return {tuple(words)} if words else set()
    return set(zip(*(words[at:] for at in range(SHINGLE))))


def resemblance(one, other):
    """The share of shingles that two texts have in common, from 0 to 1."""
    if not one and not other:
        return 1.0
    return len(one & other) / len(one | other)


class WitWorld(wit_world.WitWorld):
    def describe(self):
        return monmon.description(
            "visible-text",
            "0.1.0",
            "keywords in the text that is shown, and its likeness to a baseline",
            body=True,
            parameters=[
                monmon.parameter("keyword", "text", "words or phrases that must be shown", many=True),
                monmon.parameter("forbidden", "text", "words or phrases that must not be shown", many=True),
                monmon.parameter("baseline", "text", "the text, or the HTML, that the page should resemble; best as (file)\"…\""),
                monmon.parameter("similarity", "number", "the least likeness to the baseline", default="0.5", min=0.0, max=1.0),
                monmon.parameter("words-min", "integer", "the least number of words that are shown", min=0.0),
            ],
        )

    @monmon.guarded
    def configure(self, config):
        given = monmon.config(config)
        # Each call has an object of its own; what is to stay belongs to the class.
        WitWorld.keywords = [self.phrase("keyword", text) for text in given.get("keyword", [])]
        WitWorld.forbidden = [self.phrase("forbidden", text) for text in given.get("forbidden", [])]
        baseline = given.get("baseline")
        WitWorld.baseline = None if baseline is None else shingles(words_of(baseline))
        if self.baseline is not None and not self.baseline:
            raise ValueError("`baseline` has no words in it")
        WitWorld.similarity = given.get("similarity", 0.5)
        WitWorld.words_min = given.get("words-min", 0)

    def phrase(self, name, text):
        words = WORD.findall(text.casefold())
        if not words:
            raise ValueError(f"`{name}` has `{text}`, in which there is no word")
        return text, " " + " ".join(words) + " "

    @monmon.guarded
    def check(self, response):
        words = words_of(monmon.text(response.body))
        text = " " + " ".join(words) + " "
        metrics = {"words": (len(words), "")}
        wrong = []
        shown = 0
        for keyword, phrase in self.keywords:
            count = text.count(phrase)
            shown += count * len(phrase.split())
            if count == 0:
                wrong.append(f"`{keyword}` is not shown")
        wrong += [f"`{word}` is shown" for word, phrase in self.forbidden if phrase in text]
        if self.keywords:
            metrics["density"] = (shown / len(words) if words else 0.0, "")
        if self.baseline is not None:
            likeness = resemblance(shingles(words), self.baseline)
            metrics["similarity"] = (likeness, "")
            if likeness < self.similarity:
                wrong.append(f"the text is like the baseline by {likeness:.2f}, less than {self.similarity}")
        if len(words) < self.words_min:
            wrong.append(f"{len(words)} words are shown, fewer than {self.words_min}")
        if wrong and response.body_truncated:
            raise ValueError("; ".join(wrong) + "; but the page was cut off")
        return monmon.verdict(not wrong, "; ".join(wrong) or None, metrics=metrics)
