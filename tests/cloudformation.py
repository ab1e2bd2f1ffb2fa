"""What CloudFormation makes of a template's values, once its parameters are known."""

import re
from typing import Any

ACCOUNT = "000000000000"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-3",
    "AWS::StackName": "sms-cancel",
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE = object()


class Stack:
    """A template (in its long form, as JSON has it) with parameters; all others have defaults."""

    def __init__(self, template: dict[str, Any], **parameters: str) -> None:
        self._template = template
        unknown = parameters.keys() - template["Parameters"].keys()
        assert not unknown
        defaults = {
            name: str(each["Default"])
            for name, each in template["Parameters"].items()
            if "Default" in each
        }
        self._values = PSEUDO | defaults | parameters

    def value(self, written: Any) -> Any:  # noqa: C901  a function of CloudFormation is a case
        """Return what a piece of the template comes to; a resource is its logical id."""
        match written:
            case {"Ref": "AWS::NoValue"}:
                return _NO_VALUE
            case {"Ref": name}:
                return self._values.get(name, f"<{name}>")
            case {"Fn::GetAtt": ["ApiKeySecret", "Id"]}:
                return f"arn:aws:secretsmanager:eu-west-3:{ACCOUNT}:secret:ApiKeySecret-1"
            case {"Fn::GetAtt": [name, attribute]}:
                return f"<{name}.{attribute}>"
            case {"Fn::Sub": [text, given]}:
                return self._sub(text, {name: self.value(each) for name, each in given.items()})
            case {"Fn::Sub": text}:
                return self._sub(text, {})
            case {"Fn::If": [condition, then, otherwise]}:
                return self.value(then if self.holds(condition) else otherwise)
            case {"Fn::Split": [separator, text]}:
                return self.value(text).split(separator)
            case {"Fn::Select": [index, items]}:
                return self.value(items)[int(index)]
            case {"Fn::FindInMap": [mapping, first, second]}:
                return self._template["Mappings"][mapping][self.value(first)][self.value(second)]
            case dict():
                return self._present({key: self.value(each) for key, each in written.items()})
            case list():
                return [each for each in map(self.value, written) if each is not _NO_VALUE]
        return written

    def holds(self, condition: Any) -> bool:
        """Tell whether a condition holds, given by its name or as it is written."""
        match condition:
            case str():
                return self.holds(self._template["Conditions"][condition])
            case {"Fn::Equals": [one, other]}:
                return str(self.value(one)) == str(self.value(other))
            case {"Fn::Not": [one]}:
                return not self.holds(one)
        raise NotImplementedError(condition)

    def _sub(self, text: str, given: dict[str, Any]) -> str:
        values = self._values | given
        return re.sub(r"\$\{(.+?)\}", lambda found: values.get(found[1], f"<{found[1]}>"), text)

    def _present(self, values: dict[str, Any]) -> dict[str, Any]:
        return {key: each for key, each in values.items() if each is not _NO_VALUE}
