import json

from modules import errors
from modules.shared_cmd_options import cmd_opts


class OptionInfo:
    def __init__(
        self,
        default=None,
        label="",
        component=None,
        component_args=None,
        onchange=None,
        section=None,
        refresh=None,
        comment_before="",
        comment_after="",
        infotext=None,
        restrict_api=False,
        category_id=None,
    ):
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.onchange, self.section, self.refresh, self.restrict_api = onchange, section, refresh, restrict_api
        self.comment_before, self.comment_after, self.infotext = comment_before, comment_after, infotext
        self.category_id, self.do_not_save = category_id, False

    def info(self, info):
        self.comment_after += f"<span class='info'>({info})</span>"
        return self

    def needs_restart(self):
        return self.info("requires restart")


class OptionsCategories:
    """Headings of the settings page."""

    def __init__(self):
        self.mapping = {}

    def register_category(self, category_id, label):
        """Returns the id, but at the first time: as the WebUI's."""
        if category_id in self.mapping:
            return category_id
        self.mapping[category_id] = label


categories = OptionsCategories()


class Options:
    def __init__(self, data_labels: dict[str, OptionInfo], restricted_opts):
        self.__dict__.update(data_labels=data_labels, restricted_opts=restricted_opts)
        self.__dict__["data"] = {key: info.default for key, info in data_labels.items()}

    def __setattr__(self, key, value):
        assert not cmd_opts.freeze_settings, "changing settings is disabled"
        self.data[key] = value

    def __getattr__(self, item):
        if item in self.data:
            return self.data[item]
        if item in self.data_labels:
            return self.data_labels[item].default
        raise AttributeError(item)

    def set(self, key, value, is_api=False, run_callbacks=True):
        before = self.data.get(key)
        if before == value:
            return False
        info = self.data_labels[key]
        setattr(self, key, value)
        if run_callbacks and info.onchange is not None:
            try:
                info.onchange()
            except Exception as error:
                errors.display(error, f"changing setting {key} to {value}")
                setattr(self, key, before)
                return False
        return True

    def save(self, filename):
        assert not cmd_opts.freeze_settings, "saving settings is disabled"
        with open(filename, "w", encoding="utf8") as file:
            json.dump(self.data, file, indent=4, ensure_ascii=False)

    def load(self, filename):
        try:
            with open(filename, encoding="utf8") as file:
                self.data.update(json.load(file))
        except FileNotFoundError:
            pass

    def onchange(self, key, func, call=True):
        self.data_labels[key].onchange = func
        if call:
            func()

    def add_option(self, key, info):
        self.data_labels[key] = info
        if key not in self.data:
            self.data[key] = info.default

    def dumpjson(self):
        return json.dumps({key: self.data.get(key, info.default) for key, info in self.data_labels.items()})
