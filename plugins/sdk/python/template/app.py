"""A plugin of monmon: looks for words in the body of a page."""

import wit_world

import monmon


class WitWorld(wit_world.WitWorld):
    def describe(self):
        words = monmon.parameter("words", "text", "words that the body must have", many=True, required=True)
        return monmon.description("plugin-name", "0.1.0", "looks for words in the body", body=True, parameters=[words])

    @monmon.guarded
    def configure(self, config):
        # Each call has an object of its own; what is to stay belongs to the class.
        WitWorld.words = monmon.config(config)["words"]

    @monmon.guarded
    def check(self, response):
        text = monmon.text(response.body)
        missing = [word for word in self.words if word not in text]
        message = f"`{missing[0]}` is missing" if missing else None
        return monmon.verdict(not missing, message, metrics={"size": (len(response.body), "bytes")})
