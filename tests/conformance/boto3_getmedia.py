#!/usr/bin/env python3
"""Drives a Kinesis Video Streams service with boto3 and checks what it answers.

The service must hold a stream (--stream) whose fragments are described by --expect, a JSON file:
{"fragments": [{"number", "token", "producer_ms", "server_ms", "file"}, ...]}, in order, `file`
holding the bytes GetMedia sends for the fragment. boto3 sends timestamps as whole seconds, so
fragments must start at different ones.

Exits 0 if all is as it should be, 77 if boto3 cannot be imported.
"""

import argparse
import datetime
import json
import os
import sys
import time

try:
    import boto3
    import botocore.config
    import botocore.exceptions
except ImportError as error:
    print(f"boto3 cannot be imported: {error}")
    sys.exit(77)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    env = os.environ.get
    parser.add_argument("--endpoint", default=env("KVS_ENDPOINT"), required=not env("KVS_ENDPOINT"))
    parser.add_argument("--region", default=env("AWS_REGION", "us-west-2"))
    parser.add_argument("--access-key", default=env("AWS_ACCESS_KEY_ID"))
    parser.add_argument("--secret-key", default=env("AWS_SECRET_ACCESS_KEY"))
    parser.add_argument("--session-token", default=env("AWS_SESSION_TOKEN"))
    parser.add_argument("--stream", default="cam")
    parser.add_argument("--expect", required=True)
    return parser.parse_args()


class Conformance:
    def __init__(self, args):
        self.args = args
        self.checks = 0
        folder = os.path.dirname(os.path.abspath(args.expect))
        with open(args.expect, encoding="utf-8") as file:
            self.fragments = json.load(file)["fragments"]
        for fragment in self.fragments:
            with open(os.path.join(folder, fragment["file"]), "rb") as file:
                fragment["bytes"] = file.read()
        self.control = self.client("kinesisvideo", args.endpoint)

    def client(self, service, endpoint, **changes):
        keys = {
            "region_name": self.args.region,
            "aws_access_key_id": self.args.access_key,
            "aws_secret_access_key": self.args.secret_key,
            "aws_session_token": self.args.session_token,
        }
        keys.update(changes)
        # What the service answers is looked at, not what comes of trying again.
        config = botocore.config.Config(retries={"total_max_attempts": 1})
        return boto3.client(service, endpoint_url=endpoint, config=config, **keys)

    def check(self, what, got, wanted):
        if got != wanted:
            sys.exit(f"{what}: {got!r}, not {wanted!r}")
        self.checks += 1

    def refused(self, what, code, call, **arguments):
        try:
            call(**arguments)
        except botocore.exceptions.ClientError as error:
            self.check(what, error.response["Error"]["Code"], code)
            metadata = error.response["ResponseMetadata"]
            self.check(f"{what}: a request id", bool(metadata["RequestId"]), True)
            self.check(f"{what}: a message", bool(error.response["Error"]["Message"]), True)
            return
        sys.exit(f"{what}: succeeded, and should have failed with {code}")

    def streams(self):
        control = self.control
        arn = control.create_stream(StreamName="made-by-boto3", DataRetentionInHours=24)["StreamARN"]
        self.check("the ARN's region", arn.split(":")[3], self.args.region)
        info = control.describe_stream(StreamName="made-by-boto3")["StreamInfo"]
        self.check("StreamARN", info["StreamARN"], arn)
        self.check("Status", info["Status"], "ACTIVE")
        self.check("DataRetentionInHours", info["DataRetentionInHours"], 24)
        age = datetime.datetime.now(datetime.timezone.utc) - info["CreationTime"]
        self.check("CreationTime", abs(age.total_seconds()) < 60, True)
        by_arn = control.describe_stream(StreamARN=arn)["StreamInfo"]
        self.check("DescribeStream by ARN", by_arn["StreamName"], "made-by-boto3")
        control.tag_stream(StreamARN=arn, Tags={"made by": "boto3"})
        pages = control.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 1})
        names = [stream["StreamName"] for page in pages for stream in page["StreamInfoList"]]
        self.check("ListStreams", names, sorted([self.args.stream, "made-by-boto3"]))
        self.refused(
            "CreateStream again",
            "ResourceInUseException",
            control.create_stream,
            StreamName="made-by-boto3",
        )
        self.refused(
            "DescribeStream of no stream",
            "ResourceNotFoundException",
            control.describe_stream,
            StreamName="never-made",
        )
        control.delete_stream(StreamARN=arn)
        self.refused(
            "GetDataEndpoint of a deleted stream",
            "ResourceNotFoundException",
            control.get_data_endpoint,
            StreamName="made-by-boto3",
            APIName="GET_MEDIA",
        )

    def body(self, media, wanted, **selector):
        """GetMedia by a selector; as many bytes as are wanted."""
        answer = media.get_media(StreamName=self.args.stream, StartSelector=selector)
        self.check("ContentType", answer["ContentType"], "video/webm")
        payload = answer["Payload"]
        try:
            return payload.read(len(wanted))
        finally:
            payload.close()

    def media(self):
        endpoint = self.control.get_data_endpoint(
            StreamName=self.args.stream, APIName="GET_MEDIA"
        )["DataEndpoint"]
        media = self.client("kinesis-video-media", endpoint)
        fragments = self.fragments
        middle = len(fragments) // 2
        here = fragments[middle]

        def from_index(index):
            return b"".join(fragment["bytes"] for fragment in fragments[index:])

        def seconds(ms):
            return datetime.datetime.fromtimestamp(-(-ms // 1000), datetime.timezone.utc)

        selectors = [
            ("EARLIEST", 0, {}),
            ("NOW", len(fragments) - 1, {}),
            ("FRAGMENT_NUMBER", middle + 1, {"AfterFragmentNumber": here["number"]}),
            ("CONTINUATION_TOKEN", middle + 1, {"ContinuationToken": here["token"]}),
            ("PRODUCER_TIMESTAMP", middle, {"StartTimestamp": seconds(here["producer_ms"])}),
            ("SERVER_TIMESTAMP", middle, {"StartTimestamp": seconds(here["server_ms"])}),
        ]
        for kind, first, fields in selectors:
            wanted = from_index(first)
            got = self.body(media, wanted, StartSelectorType=kind, **fields)
            self.check(f"the body from {kind}", got == wanted, True)
            # Five calls a second are allowed for a stream.
            time.sleep(0.21)

        self.refused(
            "GetMedia of no stream",
            "ResourceNotFoundException",
            media.get_media,
            StreamName="never-made",
            StartSelector={"StartSelectorType": "NOW"},
        )
        for what, selector in [
            ("a selector that isn't one", {"StartSelectorType": "LATEST"}),
            ("FRAGMENT_NUMBER without a number", {"StartSelectorType": "FRAGMENT_NUMBER"}),
        ]:
            self.refused(
                what,
                "InvalidArgumentException",
                media.get_media,
                StreamName=self.args.stream,
                StartSelector=selector,
            )
        time.sleep(1.1)
        self.connections(media)
        time.sleep(1.1)
        self.signatures(endpoint)

    def connections(self, media):
        now = {"StartSelectorType": "NOW"}
        name = self.args.stream
        answers = [media.get_media(StreamName=name, StartSelector=now) for _ in range(3)]
        self.refused(
            "a fourth connection",
            "ConnectionLimitExceededException",
            media.get_media,
            StreamName=name,
            StartSelector=now,
        )
        for answer in answers:
            answer["Payload"].close()
        answered = 0
        while answered < 100:
            try:
                self.control.describe_stream(StreamName=name)
            except botocore.exceptions.ClientError as error:
                code = error.response["Error"]["Code"]
                self.check("too many calls", code, "ClientLimitExceededException")
                break
            answered += 1
        self.check("calls before the limit, five at least", 5 <= answered < 100, True)

    def signatures(self, endpoint):
        now = {"StreamName": self.args.stream, "StartSelector": {"StartSelectorType": "NOW"}}
        for what, code, changes in [
            ("another secret", "InvalidSignatureException", {"aws_secret_access_key": "another"}),
            ("another region", "InvalidSignatureException", {"region_name": "ap-south-1"}),
            ("an unknown key", "UnrecognizedClientException", {"aws_access_key_id": "AKIDOTHER"}),
        ]:
            media = self.client("kinesis-video-media", endpoint, **changes)
            self.refused(what, code, media.get_media, **now)


def main():
    conformance = Conformance(arguments())
    conformance.streams()
    conformance.media()
    print(f"boto3 {boto3.__version__}: {conformance.checks} checks passed")


if __name__ == "__main__":
    main()
