import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.audiences.language.klaviyo import Names, from_klaviyo
from habitue.audiences.language.klaviyo_writing import to_klaviyo
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.writing import written
from habitue.errors import BadAudience
from tests.audiences.conditions import anything, asked

NAMES = Names({"MetA": "order_placed", "MetCart": "cart_added"}, {"LstX": "staff"})


def numeric(operator, value):
    return {"type": "numeric", "operator": operator, "value": value}


def predicted(dimension, told):
    return {"type": "profile-predictive-analytics", "dimension": dimension, "filter": told}


IN_YEAR = {"type": "date", "operator": "in-the-last", "unit": "day", "quantity": 365}
DEFINITION = {
    "condition_groups": [
        {
            "conditions": [
                predicted("churn_probability", numeric("greater-than", 0.66)),
                {
                    "type": "profile-metric",
                    "metric_id": "MetA",
                    "measurement": "count",
                    "measurement_filter": numeric("greater-than-or-equal", 3),
                    "timeframe_filter": IN_YEAR,
                    "metric_filters": [
                        {
                            "property": "Categories",
                            "filter": {
                                "type": "list", "operator": "contains-any", "value": ["Mugs"]
                            },
                        }
                    ],
                },
            ]
        },
        {
            "conditions": [
                {
                    "type": "profile-metric-funnel",
                    "timeframe_filter": IN_YEAR,
                    "completion_window_seconds": "DAYS_1",
                    "steps": [
                        {"metric_exists": True, "metric_id": "MetCart", "metric_filters": []},
                        {"metric_exists": False, "metric_id": "MetA", "metric_filters": []},
                    ],
                }
            ]
        },
        {
            "conditions": [
                {
                    "type": "profile-marketing-consent",
                    "consent": {
                        "channel": "email",
                        "can_receive_marketing": True,
                        "consent_status": {"subscription": "subscribed"},
                    },
                }
            ]
        },
        {
            "conditions": [
                {
                    "type": "profile-property",
                    "property": "properties['plan']",
                    "filter": {"type": "string", "operator": "equals", "value": "gold"},
                },
                {
                    "type": "profile-property",
                    "property": "location['city']",
                    "filter": {"type": "string", "operator": "not-starts-with", "value": "New"},
                },
            ]
        },
        {
            "conditions": [
                predicted(
                    "expected_date_of_next_purchase",
                    {"type": "date", "operator": "in-the-next", "unit": "day", "quantity": 7},
                )
            ]
        },
        {
            "conditions": [
                {"type": "profile-group-membership", "is_member": False, "group_ids": ["LstX"]}
            ]
        },
    ]
}  # fmt: skip
SENTENCE = (
    "(churn_365d > 0.66 or did order_placed >= 3 times in 365 days where Categories has any of"
    ' ("Mugs")) and did cart_added in 365 days then not order_placed within 1 day and'
    ' consent.email = "subscribed" and (profile.plan = "gold" or not profile."location.city" starts'
    ' with "New") and next_order_date in the next 7 days and not in audience "staff"'
)


def test_a_definition_says_what_its_sentence_says_and_comes_back_as_it_was():
    condition = from_klaviyo(DEFINITION, NAMES)
    assert written(condition) == SENTENCE
    assert condition == parse(SENTENCE)
    assert to_klaviyo(condition, NAMES) == DEFINITION


@given(condition=asked | anything)
@settings(max_examples=100)
def test_every_condition_comes_back_from_json(condition):
    told = json.loads(json.dumps(to_klaviyo(condition)))
    assert from_klaviyo(told) == condition


def changed(path, value):
    """The definition with one value changed."""
    told = copy.deepcopy(DEFINITION)
    held = told
    for name in path[:-1]:
        held = held[name]
    held[path[-1]] = value
    return told


FIRST = ("condition_groups", 0, "conditions", 0)
METRIC = ("condition_groups", 0, "conditions", 1)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("condition_groups",), [], "/condition_groups: is empty"),
        (("condition_groups",), None, "/condition_groups: is missing"),
        (("condition_groups", 0), 5, "/condition_groups/0: an object was wanted"),
        ((*FIRST, "type"), "profile-region", "/condition_groups/0/conditions/0/type: 'profile-reg"),
        ((*FIRST, "dimension"), "predicted_gender", "0/dimension: 'predicted_gender' is"),
        ((*FIRST, "dimension"), "total_clv", "adds what was and what is predicted"),
        ((*FIRST, "filter", "operator"), "near", "conditions/0/filter/operator: 'near' is not"),
        ((*FIRST, "filter", "value"), "high", "0/filter: this is a number|compares with"),
        ((*FIRST, "filter", "value"), float("nan"), "no number that can be compared with"),
        ((*FIRST, "filter", "type"), "date", "conditions/0/filter/operator: 'greater-than' is not"),
        ((*METRIC, "measurement_filter", "value"), 1.5, "a whole number"),
        ((*METRIC, "measurement_filter", "value"), True, "value: is of the wrong type"),
        ((*METRIC, "measurement"), "unique", "conditions/1/measurement: 'unique' is not supported"),
        ((*METRIC, "timeframe_filter", "operator"), "anniversary", "'anniversary' is not"),
        ((*METRIC, "timeframe_filter", "quantity"), 0, "conditions/1: 0 days: wanted a whole"),
        ((*METRIC, "metric_id"), 5, "conditions/1/metric_id: is of the wrong type"),
        ((*FIRST, "type"), "profile-has-custom-object", "is not known: profile-metric and"),
        ((*FIRST, "type"), "profile-region", r"is not known: .*location\['country'\]"),
    ],
)
def test_what_is_not_supported_is_pointed_at(path, value, told):
    with pytest.raises(BadAudience, match=told):
        from_klaviyo(changed(path, value), NAMES)


def of(**told):
    """A definition of one condition."""
    return {"condition_groups": [{"conditions": [told]}]}


def known(**told):
    """A definition of one property and its filter."""
    return of(type="profile-property", property="properties['a']", filter=told)


def allowed(can, subscription, filters=None, channel="email"):
    told = {"subscription": subscription} | ({} if filters is None else {"filters": filters})
    consent = {"channel": channel, "can_receive_marketing": can, "consent_status": told}
    return of(type="profile-marketing-consent", consent=consent)


SINCE = {"type": "date", "operator": "in-the-last", "unit": "day", "quantity": 30}
SAID = [
    (known(type="date", operator="calendar-month", value=3), "profile.a in march"),
    (known(type="date", operator="anniversary-month"), "anniversary of profile.a this month"),
    (known(type="list", operator="length-equals", value=2), "profile.a has exactly 2 values"),
    (known(type="list", operator="length-greater-than", value=2),
     "profile.a has at least 3 values"),
    (known(type="list", operator="length-less-than", value=2), "profile.a has at most 1 value"),
    (known(type="list", operator="length-less-than-or-equal", value=2),
     "profile.a has at most 2 values"),
    (known(type="list", operator="contains-substring", value="mug"),
     'profile.a has any containing "mug"'),
    (known(type="list", operator="not-contains-substring", value="mug"),
     'not profile.a has any containing "mug"'),
    (known(type="list", operator="contains", value=5), 'profile.a has "5"'),
    (allowed(True, "any"), 'consent.email = "subscribed"'),
    (allowed(True, "subscribed", [{"field": "status_date", "filter": SINCE}]),
     'consent.email = "subscribed" and consent.email.since in the last 30 days'),
    (allowed(True, "any", channel="push"), 'consent.push = "subscribed"'),
    (allowed(False, "any"), 'not consent.email = "subscribed"'),
    (allowed(False, "unsubscribed", []), 'consent.email = "unsubscribed"'),
    (allowed(False, "never_subscribed", None, "sms"), "consent.sms is not set"),
    (of(type="profile-metric-funnel", completion_window_seconds=None, steps=[
        {"metric_exists": True, "metric_id": "MetCart"},
        {"metric_exists": False, "metric_id": "MetA"}]),
     "did cart_added then not order_placed"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "sentence"), SAID)
def test_what_klaviyo_can_say_is_read_and_comes_back(told, sentence):
    condition = from_klaviyo(told, NAMES)
    assert written(condition) == sentence
    back = to_klaviyo(condition, NAMES)
    assert from_klaviyo(back, NAMES) == condition
    assert '"habitue-' not in json.dumps(back) or "status_date" in json.dumps(told)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (known(type="date", operator="calendar-month", value=13), "filter/value: 13 is no month"),
        (known(type="date", operator="calendar-month", value="3"), "value: is of the wrong type"),
        (known(type="list", operator="length-equals", value=1.5), "wanted a whole number from 0"),
        (known(type="list", operator="length-less-than", value=0), "has at most -1 values"),
        (known(type="list", operator="contains-substring", value=None), "compares with a text"),
        (known(type="date", operator="before", date="9999-12-31T23:59:59-23:59"),
         "filter/date: '9999-12-31T23:59:59-23:59' is no date"),
        (allowed(True, "never_subscribed"), "'never_subscribed' is not supported; there are any"),
        (allowed(False, "subscribed", []), "/consent/consent_status/subscription: 'subscribed'"),
        (allowed(True, "subscribed", [{"field": "method", "method": "api"}]),
         "consent_status/filters/0/field: 'method' is not supported; there are status_date"),
        (allowed(True, "subscribed", {"field": "status_date"}), "filters: is of the wrong type"),
        (of(type="profile-predictive-analytics", dimension="expected_date_of_next_purchase",
            filter={"type": "date", "operator": "calendar-month", "value": 3}),
         "next_order_date is in the future"),
        (of(type="profile-metric", metric_id="MetA", measurement="count",
            measurement_filter=numeric("equals", 1),
            timeframe_filter={"type": "date", "operator": "calendar-month", "value": 3}),
         "timeframe_filter/operator: 'calendar-month' is not supported"),
    ],
)  # fmt: skip
def test_what_it_says_and_nobody_knows_here_is_refused_at_its_place(told, message):
    with pytest.raises(BadAudience, match=f"^/condition_groups/0/conditions/0.*{message}"):
        from_klaviyo(told, NAMES)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3)
    | st.sampled_from(["equals", "numeric", "date", "day", "alltime", "profile-metric"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["type", "filter", "operator", "value"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(held, path=()):
    inner = held.items() if isinstance(held, dict) else enumerate(held)
    for name, value in inner:
        yield (*path, name)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, name))


@given(path=st.sampled_from(sorted(places(DEFINITION), key=str)), value=json_values)
@settings(max_examples=200)
def test_any_json_is_read_or_refused(path, value):
    try:
        condition = from_klaviyo(changed(path, value), NAMES)
    except BadAudience:
        return
    assert parse(written(condition)) == condition
