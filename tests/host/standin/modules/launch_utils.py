from modules.shared_cmd_options import cmd_opts


def git_tag():
    tags = {"a1111": "v1.10.1", "forge": "f2.0.1v1.10.1", "classic": "1.10.1", "neo": "neo"}
    return tags[cmd_opts.like] + "-standin"
