"""``hmar schema``: what a settings file, or the conf of a run, may hold."""

import json

from pipeline.settings import RetrainSettings


def main(arguments: list[str]) -> int:
    from hmar.errors import SettingsError

    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: hmar schema\n\nPrint the JSON schema of a run's settings.")
        return 0
    if arguments:
        raise SettingsError(f"hmar schema takes no flags (given: {arguments[0]})")
    print(json.dumps(RetrainSettings.model_json_schema(), indent=2, ensure_ascii=False))
    return 0
