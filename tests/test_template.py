"""What no linter sees in template.yaml, judged on what SAM makes of it."""

import json
import re

import boto3
import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from cloudformation import Stack
from infra import template
from infra.local.stack import ROOT
from sms_cancel import api, cancellation, watch, worker


def transform(text: str) -> dict:
    written = yaml_parse(text)
    written["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    session = boto3.Session(region_name="eu-west-3")
    return Translator({}, Parser(), boto_session=session).translate(written, {})


TEMPLATE = transform(ROOT.joinpath("template.yaml").read_text())
FUNCTIONS = ("ApiFunction", "WorkerFunction", "WatchFunction")
INFRA = ("monitoring", "openapi", "pipeline")
MONITORING = ROOT / "infra" / "monitoring.yaml"
KEY = {"Fn::GetAtt": ["EncryptionKey", "Arn"]}
ROOT_USER = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
OWN_ACCOUNT = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def resources(*kinds: str) -> dict[str, dict]:
    """Return the properties of all resources of these types, by logical id."""
    found = {
        name: resource["Properties"]
        for name, resource in TEMPLATE["Resources"].items()
        if resource["Type"] in {f"AWS::{kind}" for kind in kinds}
    }
    assert found
    return found


def choices(value) -> list:
    """Return all that a value can be, whatever the conditions; lists are flattened."""
    if isinstance(value, list):
        return [choice for each in value for choice in choices(each)]
    if isinstance(value, dict) and "Fn::If" in value:
        return choices(value["Fn::If"][1:])
    return [] if value == {"Ref": "AWS::NoValue"} else [value]


def test_every_route_has_an_authorizer():
    assert not any("Serverless" in each["Type"] for each in TEMPLATE["Resources"].values())
    assert not any("Lambda::Url" in each["Type"] for each in TEMPLATE["Resources"].values())
    for route in resources("ApiGatewayV2::Route").values():
        assert route["AuthorizationType"] == {"Fn::If": ["UseJwt", "JWT", "AWS_IAM"]}
        assert route["AuthorizerId"]["Fn::If"][:2] == ["UseJwt", {"Ref": "JwtAuthorizer"}]


def test_the_worker_tells_which_messages_failed():
    for mapping in resources("Lambda::EventSourceMapping").values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["BatchSize"] <= 10  # which is all that PutEvents takes at once
        assert mapping["BatchSize"] <= worker.MAX_THREADS


def test_a_message_stays_invisible_for_six_times_the_worker():
    timeout_s = resources("Lambda::Function")["WorkerFunction"]["Timeout"]
    assert resources("SQS::Queue")["Queue"]["VisibilityTimeout"] >= 6 * timeout_s


@pytest.mark.parametrize(
    ("function", "reserve_s"),
    [
        ("ApiFunction", api.RESERVE_S),
        ("WorkerFunction", worker.RESERVE_S),
        ("WatchFunction", watch.RESERVE_S),
    ],
)
def test_no_time_limit_cuts_off_the_one_within(function, reserve_s):
    [integration] = resources("ApiGatewayV2::Integration").values()
    timeout_s = resources("Lambda::Function")[function]["Timeout"]
    if function == "ApiFunction":
        assert integration["TimeoutInMillis"] == 30_000 > timeout_s * 1000
    budget_s = timeout_s - reserve_s
    assert timeout_s > budget_s >= cancellation.MAX_ATTEMPTS * cancellation.CALL_DEADLINE_S


def alarms() -> list:
    found = TEMPLATE["Resources"] | yaml_parse(MONITORING.read_text())["Resources"]
    return [
        pytest.param(resource["Properties"], id=name)
        for name, resource in found.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]


@pytest.mark.parametrize("alarm", alarms())
def test_every_alarm_tells_when_it_begins_and_when_it_ends(alarm):
    assert choices(alarm["AlarmActions"])
    assert alarm["AlarmActions"] == alarm["OKActions"]
    assert alarm.get("ActionsEnabled", True) is True


def statements(effect: str) -> list[dict]:
    """Return all statements of what the roles may do, or may not."""
    documents = [policy["PolicyDocument"] for policy in resources("IAM::ManagedPolicy").values()]
    for role in resources("IAM::Role").values():
        documents += [policy["PolicyDocument"] for policy in role.get("Policies", [])]
    found = [each for document in documents for each in choices(document["Statement"])]
    return [each for each in found if each["Effect"] == effect]


NO_RESOURCES = {
    # AWS has no resource types for these.
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    # Lambda refuses a role that may do these on network interfaces only, before there are any.
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
}
ANY_OF_A_TYPE = {
    # CodeDeploy's: a call that names no alarm is refused unless it may describe all
    "cloudwatch:DescribeAlarms",
}


def test_every_action_is_on_an_exact_resource():
    wide = {"*": set(), "of a type": set()}
    for statement in statements("Allow"):
        actions = set(choices(statement["Action"]))
        assert not any("*" in action for action in actions)
        for resource in choices(statement["Resource"]):
            if resource == "*":
                wide["*"] |= actions
            elif "*" in json.dumps(resource):
                wide["of a type"] |= actions
    assert wide == {"*": NO_RESOURCES, "of a type": ANY_OF_A_TYPE}


def test_each_door_may_send_to_one_queue():
    sending = {
        role: [
            statement["Resource"]
            for policy in resources("IAM::Role")[role]["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
            if "sqs:SendMessage" in choices(statement["Action"])
        ]
        for role in ("ApiRole", "WorkerRole")
    }
    assert sending == {
        "ApiRole": [{"Fn::GetAtt": ["Queue", "Arn"]}],
        "WorkerRole": [{"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}],
    }


def test_events_may_be_put_on_the_default_bus_in_our_own_name_and_only_if_wanted():
    [put] = [each for each in statements("Allow") if "events:" in str(each["Action"])]
    assert put["Action"] == "events:PutEvents"
    assert put["Resource"]["Fn::Sub"].endswith(":${AWS::AccountId}:event-bus/default")
    # The key has a value for each event of a call; without the second condition, none would do.
    assert put["Condition"] == {
        "ForAllValues:StringEquals": {"events:source": "sms-cancel"},
        "Null": {"events:source": "false"},
    }
    assert TEMPLATE["Resources"]["EventsPolicy"]["Condition"] == "PutEvents"
    wanted = {"Fn::If": ["PutEvents", {"Ref": "EventsPolicy"}, {"Ref": "AWS::NoValue"}]}
    for role in ("ApiRole", "WorkerRole"):
        assert wanted in resources("IAM::Role")[role]["ManagedPolicyArns"]
    assert wanted not in resources("IAM::Role")["WatchRole"]["ManagedPolicyArns"]
    assert TEMPLATE["Conditions"]["PutEvents"] == {"Fn::Equals": [{"Ref": "OutcomeEvents"}, "true"]}
    assert TEMPLATE["Parameters"]["OutcomeEvents"]["Default"] == "false"


def test_the_code_itself_may_touch_no_network_interface():
    [denied] = statements("Deny")
    assert (denied["Action"], denied["Resource"]) == ("ec2:*", "*")
    assert denied["Condition"] == {"Null": {"lambda:SourceFunctionArn": "false"}}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_functions_have_only_policies_of_this_template(function):
    role = resources("Lambda::Function")[function]["Role"]["Fn::GetAtt"][0]
    policies = choices(resources("IAM::Role")[role]["ManagedPolicyArns"])
    assert {each["Ref"] for each in policies} <= resources("IAM::ManagedPolicy").keys()


def test_what_holds_data_is_under_the_key_of_the_stack():
    held = resources("SQS::Queue", "SNS::Topic", "SecretsManager::Secret", "Logs::LogGroup")
    assert {name for name, each in held.items() if "Queue" in name} == {"Queue", "DeadLetterQueue"}
    for properties in held.values():
        assert properties.get("KmsMasterKeyId", properties.get("KmsKeyId")) == KEY
    assert resources("KMS::Key")["EncryptionKey"]["EnableKeyRotation"] is True


def test_the_functions_may_use_that_key_and_the_one_of_a_given_secret():
    uses = {
        (action, json.dumps(resource))
        for statement in statements("Allow")
        for action in choices(statement["Action"])
        for resource in choices(statement["Resource"])
        if action.startswith("kms:")
    }
    assert uses == {
        ("kms:Decrypt", json.dumps(KEY)),
        ("kms:GenerateDataKey", json.dumps(KEY)),
        ("kms:Decrypt", '{"Ref": "ApiKeySecretKmsKeyArn"}'),
    }


@pytest.mark.parametrize("name", ["Queue", "DeadLetterQueue", "AlertTopic"])
def test_plain_http_is_refused_whatever_the_parameters(name):
    policy = TEMPLATE["Resources"][f"{name}Policy"]
    assert "Condition" not in policy
    [target] = policy["Properties"].get("Queues") or policy["Properties"]["Topics"]
    assert target == {"Ref": name}
    [denied] = [
        each
        for each in policy["Properties"]["PolicyDocument"]["Statement"]
        if each["Effect"] == "Deny"
    ]
    assert denied["Principal"] == "*"
    assert denied["Action"] in ("sqs:*", ["sns:Publish", "sns:Subscribe"])
    assert denied["Resource"] in ({"Ref": name}, {"Fn::GetAtt": [name, "Arn"]})
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_alarms_of_this_account_may_publish_and_use_the_key():
    topic = resources("SNS::TopicPolicy")["AlertTopicPolicy"]["PolicyDocument"]["Statement"]
    key = resources("KMS::Key")["EncryptionKey"]["KeyPolicy"]["Statement"]
    for document, actions in (
        (topic, ["sns:Publish"]),
        (key, ["kms:Decrypt", "kms:GenerateDataKey*"]),
    ):
        [allowed] = [each for each in document if each["Sid"] == "Alarms"]
        assert allowed["Effect"] == "Allow"
        assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        assert choices(allowed["Action"]) == actions
        assert allowed["Condition"] == OWN_ACCOUNT
        [owner] = [each for each in document if each["Sid"] == "Owner"]
        assert (owner["Effect"], owner["Principal"]) == ("Allow", ROOT_USER)


@pytest.mark.parametrize("name", ["Queue", "DeadLetterQueue", "ApiKeySecret", "EncryptionKey"])
def test_messages_and_keys_outlive_the_stack_but_not_a_failed_creation(name):
    assert TEMPLATE["Resources"][name]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert TEMPLATE["Resources"][name]["UpdateReplacePolicy"] == "Retain"


def test_two_stacks_fit_in_one_account():
    names = {
        "Lambda::Function": "FunctionName",
        "SQS::Queue": "QueueName",
        "SNS::Topic": "TopicName",
        "SecretsManager::Secret": "Name",
        "IAM::Role": "RoleName",
        "IAM::ManagedPolicy": "ManagedPolicyName",
        "CloudWatch::Alarm": "AlarmName",
        "CloudWatch::Dashboard": "DashboardName",
    }
    nested = yaml_parse(MONITORING.read_text())["Resources"]
    for resource in (TEMPLATE["Resources"] | nested).values():
        assert names.get(resource["Type"].removeprefix("AWS::")) not in resource["Properties"]
    for log_group in resources("Logs::LogGroup").values():
        assert "${AWS::StackName}" in str(log_group.get("LogGroupName", "${AWS::StackName}"))


def test_the_worker_never_has_less_reserved_than_it_polls_for():
    functions = resources("Lambda::Function")
    [mapping] = resources("Lambda::EventSourceMapping").values()
    polled = mapping["ScalingConfig"]["MaximumConcurrency"]
    reserved = functions["WorkerFunction"]["ReservedConcurrentExecutions"]
    assert reserved == {"Fn::If": ["ReserveConcurrency", polled, {"Ref": "AWS::NoValue"}]}
    assert TEMPLATE["Parameters"]["ReservedConcurrency"]["Default"] == 0


def test_the_watch_runs_even_where_the_doors_fill_the_account():
    reserved = resources("Lambda::Function")["WatchFunction"]["ReservedConcurrentExecutions"]
    assert reserved == {"Fn::If": ["ReserveConcurrency", 1, {"Ref": "AWS::NoValue"}]}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_functions_run_in_the_vpc_that_is_given(function):
    condition, chosen, otherwise = resources("Lambda::Function")[function]["VpcConfig"]["Fn::If"]
    assert (condition, otherwise) == ("UseVpc", {"Ref": "AWS::NoValue"})
    assert chosen == {
        name: {"Fn::Split": [",", {"Ref": name}]} for name in ("SubnetIds", "SecurityGroupIds")
    }


def test_the_schedule_runs_the_alias_of_the_watch_and_its_role_may_do_nothing_else():
    [schedule] = resources("Scheduler::Schedule").values()
    alias = {"Ref": "WatchFunctionAliaslive"}
    assert (schedule["ScheduleExpression"], schedule["Target"]["Arn"]) == ("rate(5 minutes)", alias)
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedule["Target"]["RoleArn"] == {"Fn::GetAtt": ["WatchScheduleRole", "Arn"]}
    role = resources("IAM::Role")["WatchScheduleRole"]
    [policy] = role["Policies"]
    assert policy["PolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": alias}
    ]
    assert "ManagedPolicyArns" not in role
    [trust] = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"] == OWN_ACCOUNT  # no schedule of another account


def test_a_run_that_failed_is_over_long_before_the_next():
    [schedule] = resources("Scheduler::Schedule").values()
    [config] = resources("Lambda::EventInvokeConfig").values()
    assert (config["FunctionName"], config["Qualifier"]) == ({"Ref": "WatchFunction"}, "live")
    assert config["MaximumRetryAttempts"] == 0
    scheduled_s = schedule["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"]
    timeout_s = resources("Lambda::Function")["WatchFunction"]["Timeout"]
    assert scheduled_s + config["MaximumEventAgeInSeconds"] + timeout_s < 300


def created(document: dict, **parameters: str) -> dict:
    """Return the properties of what CloudFormation creates, with their values."""
    stack = Stack(document, **parameters)
    return {
        name: stack.value(resource["Properties"])
        for name, resource in document["Resources"].items()
        if "Condition" not in resource or stack.holds(resource["Condition"])
    }


def test_without_the_watch_nothing_of_it_is_created():
    watched, unwatched = created(TEMPLATE), created(TEMPLATE, AccountWatch="false")
    gone = watched.keys() - unwatched.keys()
    assert {re.sub(r"Version\w{10}$", "Version", each) for each in gone} == {
        "WatchFunction", "WatchFunctionVersion", "WatchFunctionAliaslive",
        "WatchFunctionEventInvokeConfig", "WatchLogGroup", "WatchRole",
        "WatchSchedule", "WatchScheduleRole",
    }  # fmt: skip
    assert "<Watch" in json.dumps(watched)
    assert "<Watch" not in json.dumps(unwatched)  # nor is it referred to
    monitoring = unwatched["Monitoring"]["Parameters"]
    assert (monitoring["WatchFunctionName"], monitoring["FewestCredits"]) == ("", "0")


@pytest.mark.parametrize(
    ("name", "credits_low", "expected"),
    [
        ("", "0", set()),
        ("watch", "0", {"AccountNotWatched"}),
        ("watch", "500", {"AccountNotWatched", "CreditsLow"}),
    ],
)
def test_the_alarms_of_the_watch_are_created_as_they_are_wanted(name, credits_low, expected):
    nested = template.load(MONITORING)
    given = created(nested, WatchFunctionName=name, FewestCredits=credits_low)
    assert given.keys() & {"AccountNotWatched", "CreditsLow"} == expected
    if "CreditsLow" in expected:
        assert given["CreditsLow"]["Threshold"] == credits_low


def test_credits_are_watched_only_where_the_account_is():
    rule = TEMPLATE["Rules"]["CreditsAreWatched"]
    [wanted] = rule["Assertions"]
    for watched, credits_low, refused in (
        ("true", "500", False), ("false", "0", False), ("false", "500", True),
    ):  # fmt: skip
        stack = Stack(TEMPLATE, AccountWatch=watched, CreditsLow=credits_low)
        judged = stack.holds(rule["RuleCondition"]) and not stack.holds(wanted["Assert"])
        assert judged == refused


def test_the_access_log_holds_no_query_string_and_no_header():
    [stage] = resources("ApiGatewayV2::Stage").values()
    line = json.loads(stage["AccessLogSettings"]["Format"])
    assert all(value.startswith("$context.") for value in line.values())
    assert not [word for word in ("query", "header", "authorization") if word in str(line).lower()]
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] > 0
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] > 0


def test_the_copy_of_a_message_always_fits_into_the_dead_letter_queue():
    """SQS counts a message's attributes: of the longest message the copy is longer."""
    queues = resources("SQS::Queue")
    assert queues["Queue"]["MaximumMessageSize"] == 16 * 1024
    assert "MaximumMessageSize" not in queues["DeadLetterQueue"]  # SQS's own limit, 1 MiB


def test_access_logs_go_where_the_accounts_policy_for_log_delivery_has_one_entry():
    name = resources("Logs::LogGroup")["AccessLogGroup"]["LogGroupName"]["Fn::Sub"]
    assert name.startswith("/aws/vendedlogs/${AWS::StackName}-")
    key = resources("KMS::Key")["EncryptionKey"]["KeyPolicy"]["Statement"]
    [logs] = [each for each in key if each["Sid"] == "Logs"]
    groups = logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    prefixes = [each["Fn::Sub"].partition(":log-group:")[2].removesuffix("*") for each in groups]
    assert prefixes == ["${AWS::StackName}-", "/aws/vendedlogs/${AWS::StackName}-"]


FIXED = re.compile(r"arn:aws[:-]|\bamazonaws\.|\baws\.amazon\.com")
# Service principals are called so in each partition; GitHub's issuer is nobody's at AWS.
THE_SAME_EVERYWHERE = re.compile(
    r"\b(apigateway|cloudformation|cloudwatch|codedeploy|lambda|scheduler|sts)\.amazonaws\.com\b"
)


@pytest.mark.parametrize("name", ["template.yaml", *(f"infra/{each}.yaml" for each in INFRA)])
def test_no_partition_and_no_suffix_is_fixed(name):
    text = ROOT.joinpath(name).read_text()
    # The consoles' hosts follow no rule: each partition has its own.
    text = re.sub(r"^Mappings:\n  Console:.*?\n\n", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [THE_SAME_EVERYWHERE.sub("", line) for line in text.splitlines()]
    assert [line for line in lines if FIXED.search(line)] == []


@pytest.mark.parametrize("section", ["Parameters", "Outputs"])
def test_everything_is_described(section):
    assert TEMPLATE[section]
    assert all(each["Description"].strip() for each in TEMPLATE[section].values())
