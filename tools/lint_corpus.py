"""Run `naught.lint` over other people's code: the standard library and well-known packages.

    python tools/lint_corpus.py --into FOLDER                       download once, check, write findings.json
    python tools/lint_corpus.py --into FOLDER --sets fourth         only the packages of one set
    python tools/lint_corpus.py --into FOLDER --draw fourth --sample 50   and draw a sample of it to judge by hand

It applies the rules that `naught lint` applies by default; `--select NZ --locals` applies all rules to all maps.

There are five sets of packages:

    first      with the standard library. It was read while the rules were made, so the precision of the rules in it
               says little about other code.
    second     was held out: no rule was changed before every finding in it had been judged. Then it was read as well.
    between    was chosen for reading, while the rules were changed again.
    third      was held out: it was chosen by name, and its versions were fixed, before the checker ran over it. Two
               people judged a sample, and then the rules were changed again.
    fourth     is held out in the same way. Its versions were fixed when the rules were as they are now.

The packages are downloaded into FOLDER as wheels, in the versions below, and are unpacked, but never installed or
imported. FOLDER is not part of the repository. findings.json names files relative to FOLDER (or to the standard
library, as `stdlib/…`), so that the results of two runs can be compared.

The sample has the form of docs/lint-verdicts.json, with empty verdicts. Two sorts of findings are not drawn. One is
an NZ100 for a file that Python itself cannot parse, because there is nothing to judge in it; an NZ100 for a file that
only the checker cannot read may be drawn. The other is a finding in a copy: packages contain files of other packages,
and only the finding in the first package, in the order of the sets, may be drawn. If there are no more findings than
`--sample` asks for, all of them are drawn. The seed of the draw is printed.

A file that makes the checker raise ends the run with a traceback. There is no such file.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections import Counter
from pathlib import Path

from naught.lint.config import Config
from naught.lint.files import check_files, python_files
from naught.lint.finding import UNREADABLE, Finding, words

FIRST, SECOND, BETWEEN, THIRD, FOURTH = "first", "second", "between", "third", "fourth"
SETS: dict[str, list[str]] = {
    FIRST: words("""
        aiohttp==3.14.5 celery==5.7.0 django==5.2.19 flask==3.1.3 networkx==3.6.1 pandas==3.1.1 requests==2.34.2
        scikit-learn==1.9.1 sqlalchemy==2.1.9 sympy==1.14.0 tornado==6.6.1 twisted==26.10.0
    """),
    SECOND: words("""
        angr==9.2.213 ansible-core==2.19.14 apache-airflow-core==3.3.2 astroid==4.3.4 biopython==1.88
        bokeh==3.9.2 buildbot==4.3.0 dask==2026.8.0 distributed==2026.8.0 docutils==0.23 gensim==4.4.0
        hypothesis==6.170.15 ipython==9.18.1 jax==0.10.2 jedi==0.20.1 jinja2==3.1.6 kombu==5.7.0 luigi==3.8.1
        matplotlib==3.11.2 matrix-synapse==1.163.2 mitmproxy==11.0.2 mypy==2.4.1 nltk==3.10.4 numba==0.68.1
        pip==26.3 prefect==3.9.1 pylint==4.1.4 pytest==9.2.0 qiskit==2.6.2 scapy==2.8.0 scipy==1.17.1
        scrapy==2.19.0 setuptools==84.2.1 spacy==3.8.18 sphinx==9.0.4 statsmodels==0.15.0 transformers==5.23.0
        werkzeug==3.1.9 xarray==2026.9.0
    """),
    BETWEEN: words("""
        aiokafka==0.14.0 anyio==4.16.0 asyncua==2.1.0 buildstream==2.8.1 cassandra-driver==3.30.1 channels==4.3.2
        conan==2.34.0 dash==4.4.1 deluge==2.2.0 dramatiq==2.2.1 evennia==5.0.1 eventlet==0.41.3 gevent==26.9.0
        gradio==6.31.0 huey==3.5.4 jupyter-server==2.21.1 kubernetes==37.0.2 litestar==2.25.0 locust==2.47.0
        mercurial==7.2.4 nats-py==2.16.0 neutron==29.0.0 nova==34.0.0 paho-mqtt==2.2.0 panel==1.9.4 pika==1.4.4
        prometheus-client==0.26.0 psycopg==3.3.9 pymodbus==3.16.1 pymongo==4.20.1 python-telegram-bot==22.8
        ray==2.60.0 redis==8.1.0 rq==3.0.0 sanic==25.12.1 sentry-sdk==2.75.0 slixmpp==1.17.0 streamlit==1.67.0
        swift==2.38.3 textual==8.2.8 trio==0.35.0 zigpy==2.4.0
    """),
    THIRD: words("""
        accelerate==1.15.0 aio-pika==10.2.1 aiobotocore==3.10.0 aiocoap==0.4.17 aioesphomeapi==46.23.0 aiogram==3.31.0
        aiormq==7.2.4 aiosmtpd==1.4.6 aiostream==0.8.1 aiounifi==97 airbyte-cdk==7.39.1 amqtt==0.12.1
        ansible-runner==2.4.3 aodh==23.0.0 apache-beam==2.77.0 apache-superset==6.1.0 arcade==3.3.3 archivebox==0.9.73
        arq==0.28.0 arviz==1.3.0 ase==3.29.0 astropy==8.0.2 async-upnp-client==0.49.0 asyncssh==2.24.1
        autobahn==26.10.2 autogen-core==0.7.5 azure-core==1.41.0 azure-eventhub==5.15.1 azure-servicebus==7.15.0
        bacpypes3==0.0.110 bandersnatch==8.2.0 barbican==23.0.0 beets==2.14.1 bellows==1.2.1 bentoml==1.4.40
        biotite==2.0.0 blacksheep==2.6.4 bleak==3.1.0 botocore==1.44.5 breezy==3.3.23 c7n==0.9.53 canopen==2.4.1
        ccxt==4.5.90 ceilometer==27.0.0 certbot==5.8.0 channels-redis==4.3.0 checkov==3.3.30 cherrypy==18.10.0
        cinder==29.0.0 circus==0.19.0 clearml==2.1.12 coverage==7.17.3 crawlee==1.11.0 crewai==1.15.30
        crossbar==26.10.1 cvxpy==1.9.3 cwltool==3.3.20260925135507 cython==3.3.1 dagster==1.13.28 daphne==4.2.3
        dask-jobqueue==0.9.0 datadog==0.56.0 dbt-core==1.12.6 ddtrace==4.16.0 designate==23.0.0 devpi-server==6.20.3
        disnake==2.12.2 django-cms==5.1.3 django-oscar==4.2.1 django-q2==1.11.1 django-redis==7.0.0 dspy==3.4.1
        dstack==0.22.5 dulwich==1.2.21 elastic-apm==6.26.2 elasticsearch==9.5.1 errbot==6.2.1 esphome==2026.10.0
        eventsourcing==9.5.6 exabgp==5.0.15 fabric==3.2.3 falcon==4.4.0 fastapi==0.163.2 feast==0.67.0
        fireworks==2.1.4 flair==0.15.1 flet==1.0.5 flexget==3.22.8 flytekit==1.16.31 foolscap==24.9.0
        freqtrade==2026.9 gallery-dl==1.32.18 gcsfs==2026.10.1 gitpython==3.2.1 glance==33.0.0 glances==4.5.8
        globus-compute-endpoint==4.19.0 glue-core==1.28.0 google-api-core==2.44.0 google-cloud-pubsub==2.44.0
        granian==2.8.7 great-expectations==1.24.1 gunicorn==27.0.1 gymnasium==1.4.0 habluetooth==7.1.2 hatch==1.18.2
        haystack-ai==3.4.1 heat==1.9.0 holoviews==1.23.2 homeassistant==2026.11.0 hypercorn==0.18.0
        ibis-framework==12.0.0 igraph==1.0.0 impacket==0.13.1 ipyparallel==9.2.0 ironic==39.0.0
        jedi-language-server==0.47.0 jupyterhub==6.1.1 kafka-python==3.0.12 kazoo==2.11.0 kedro==1.7.0
        keystone==30.0.0 klein==24.8.0 kopf==1.45.2 kubernetes-asyncio==36.1.0 langchain==1.5.0 libcst==1.9.0
        librosa==1.0.0 lightkube==1.0.1 llama-index-core==0.14.25 localstack-core==2026.3.0
        magic-wormhole-mailbox-server==0.8.0 magic-wormhole-transit-relay==0.5.0 magic-wormhole==0.24.0 magnum==23.0.0
        mailman==3.3.10 manila==23.0.1 marimo==0.25.2 matrix-nio==0.26.0 mautrix==0.21.1 mdanalysis==2.11.0
        mesa==3.5.1 meson==1.12.1 metaflow==2.19.39 mezzanine==6.1.1 mistral==23.0.0 mlflow==3.18.0 modin==0.37.1
        modoboa==2.12.0 molecule==26.10.0 mongoengine==0.29.3 mopidy==4.0.5 moto==5.2.5 motor==3.7.1 music21==10.5.1
        mutagen==1.48.1 nameko==2.14.1 napalm==5.2.0 napari==0.9.2 ncclient==0.7.1 netmiko==4.8.0 networkit==11.2.2
        newrelic==14.1.0 nextcord==3.2.0 nicegui==3.18.0 nornir==3.6.0 nox==2026.10.20 octavia==19.0.0
        octoprint==1.11.8 onnx==1.23.2 openai==3.51.0 opensearch-py==3.2.0 openstacksdk==4.22.0
        opentelemetry-sdk==1.45.2 ops==3.9.0 orange3==3.40.0 papermill==2.7.0 parsl==2026.10.26 pdm==2.29.4
        peewee==4.5.3 pettingzoo==1.27.0 pgmpy==1.1.2 platformio==6.2.0 playwright==1.65.2 plexapi==4.18.3
        poetry==2.5.1 polars==2.1.0 pony==0.7.20 pretix==2026.8.0 procrastinate==3.10.0 prompt-toolkit==3.0.53
        prowler==5.46.0 proxmoxer==2.3.0 ptpython==3.0.32 pulpcore==3.123.1 pwntools==4.15.0 pyatv==0.18.0
        pychromecast==14.0.10 pyglet==2.1.19 pygls==2.1.1 pymatgen==2026.10.24 pymc==6.4.0 pyomo==6.10.1
        pyqtgraph==0.14.0 pyramid==2.1 pyright==1.1.414 pyscf==2.14.0 pysnmp==7.1.30 pytest-asyncio==1.5.0
        pytest-xdist==3.8.0 python-can==4.6.1 python-engineio==4.15.1 python-lsp-server==1.15.0
        python-matter-server==8.1.2 python-socketio==5.18.1 pythran==0.19.0 pyvera==0.3.16 pyzmq==27.3.0 quart==0.23.1
        radicale==3.9.0 reflex==0.10.1 rich==15.0.0 robyn==0.88.0 rope==1.15.0 s3fs==2026.9.0 scikit-image==0.26.0
        scrapy-redis==0.9.1 scrapyd==1.6.0 simpy==4.1.2 skypilot==0.14.1 slack-bolt==1.30.0 slack-sdk==3.47.0
        snakemake==9.27.1 soco==0.32.0 sopel==8.0.4 spyder-kernels==3.1.6 spyder==6.1.8 sqlglot==30.30.0
        sqlmodel==0.0.50 stable-baselines3==2.9.2 stanza==1.15.0 starlette==1.10.0 streamlink==8.6.3 sunpy==8.0.1
        supervisor==4.3.0 tahoe-lafs==1.20.0 taskiq==0.13.0 telethon==1.45.0 tempest==47.0.0 temporalio==1.35.0
        toil==9.6.0 tortoise-orm==1.1.9 tox==4.67.13 treq==26.7.0 trove==26.0.0 txtorcon==26.6.0 urwid==5.0.1
        uvicorn==0.54.0 vispy==0.17.0 vnpy==4.5.0 voila==0.5.13 volatility3==2.28.2 wagtail==8.0.1 waitress==3.0.2
        web3==8.0.0 websockets==17.4 xonsh==0.25.0 yt-dlp==2026.10.26 yt==4.4.3 zeroconf==0.154.0 zha==2.3.1 zodb==6.4
        zope==6.3 zun==18.0.0 zwave-js-server-python==0.74.0
    """),
    FOURTH: words("""
        aider-chat==0.86.2 aim==3.29.1 aiocache==0.12.3 aiohomekit==4.0.1 aiohue==4.9.0 aioice==0.13.0
        aiomqtt==2.5.1 aiomysql==0.3.2 aioquic==1.7.2 aiortc==1.16.0 aioshelly==13.35.0 alembic==1.20.1
        ansible-lint==26.10.1 appdaemon==4.5.13 argilla==2.8.0 ariadne==1.1.1 asyncpg==0.32.0
        aws-sam-cli==1.170.0 awscli==1.46.3 b2sdk==2.13.2 barman==3.19.1 beanie==2.2.0 bittensor==11.3.0
        blazar==18.0.0 borgmatic==2.1.10 boto3==1.44.8 bottle==0.13.4 browser-use==0.13.14 cachetools==8.0.2
        cantools==45.1.0 chainlit==2.12.0 chess==1.10.0 chia-blockchain==2.7.5 chromadb==1.5.9
        clickhouse-connect==1.12.0 clickhouse-driver==0.2.11 cloudkitty==25.0.0 cobbler==3.3.10
        confluent-kafka==2.16.1 connexion==3.3.0 coredis==6.9.0 dask-kubernetes==2026.3.0 datasette==0.65.5
        diskcache==5.6.3 django-allauth==65.22.1 django-rq==4.2.0 djangorestframework==3.18.3 dnspython==2.9.2
        docker==7.2.0 dogpile-cache==1.5.0 dronekit==2.9.2 dvc==3.67.1 eth-ape==0.8.52 fakeredis==2.41.0
        faststream==0.7.8 faust-streaming==0.15.3 flask-admin==2.2.1 flask-limiter==4.1.1 flask-socketio==5.7.0
        fsspec==2026.9.0 gmqtt==0.8.0 gnocchi==4.7.1 google-cloud-bigquery==3.47.0
        google-cloud-firestore==2.34.1 google-cloud-spanner==3.71.0 google-cloud-storage==3.17.1 gql==4.4.0
        graphene==3.4.3 grpclib==0.4.9 h2==4.4.1 hap-python==5.2.0 hikari==2.7.0 horizon==27.0.0 httpcore==1.0.9
        httpx==0.28.1 indico==3.2.9 influxdb-client==1.50.0 intake==2.0.9 ipykernel==7.4.0 irc==20.5.0
        juju==3.6.1.3 jupyter-client==8.10.0 jupyterhub-kubespawner==7.1.0 jupyterlab==4.6.6 kivy==2.3.1
        kolibri==0.19.5 kuryr-kubernetes==10.0.0 label-studio==1.23.2 langgraph==1.2.24 ldaptor==21.2.0
        letta==0.34.12 libp2p==0.8.1 lightning==2.6.6 limits==5.8.0 litellm==1.110.2 masakari==22.0.0
        maubot==0.6.0 mesop==1.3.7 mlrun==1.12.1 mycli==2.30.1 nautobot==3.2.7 nbgrader==0.9.6 neo4j==6.4.1
        neutron-lib==5.0.1 nni==3.0 nodepool==11.0.0 obspy==1.5.1 openstack-cyborg==17.0.0
        openstack-placement==16.0.0 optuna==5.0.0 os-brick==7.1.1 os-ken==4.2.2 os-vif==5.3.0
        oslo-concurrency==7.6.1 oslo-db==18.1.1 oslo-messaging==18.3.1 oslo-service==4.8.0 ovsdbapp==3.0.0
        panda3d==1.10.16 paramiko==5.1.0 patroni==4.1.5 pgcli==4.7.1 piccolo==1.38.0 podman==5.8.0
        podman-compose==1.6.0 psychopy==2026.2.5 py-cord==2.8.1 py-evm==0.12.1b1 pycomm3==1.2.16
        pydantic-ai-slim==2.68.0 pydle==1.2.0 pyinfra==3.10.0 pyinsteon==1.7.0 pykube-ng==23.6.0
        pymavlink==2.4.50 pymemcache==4.0.0 pymilvus==3.0.2 pyro5==5.17 pyrogram==2.0.106 pyroute2==0.9.7
        pyserial==3.5 python-miio==0.5.12 python-watcher==17.0.0 pyvisa==1.16.2 qdrant-client==1.20.0
        qtconsole==5.7.2 raiden==3.0.1 rally==5.1.1 rdflib==7.6.0 relstorage==4.3.0 requests-cache==1.3.3
        reviewboard==8.1 rpyc==6.0.2 s3transfer==0.19.3 semantic-kernel==1.45.0 senlin==16.0.0 shiny==1.8.0
        smolagents==1.26.0 stomp-py==9.0.0 strawberry-graphql==0.341.2 taskflow==6.5.0 thrift==0.25.0
        tinydb==4.9.0 tooz==9.1.0 trame-server==4.1.0 twitchio==3.3.2 uiprotect==25.0.0 ursina==7.0.0
        vitrage==15.0.1 vkbottle==4.11.0 wandb==0.31.0 weaviate-client==4.24.1 weblate==5.14.3 wsgidav==4.3.5
        wyoming==1.10.2 xknx==4.0.0 zappa==0.63.0 zaqar==23.0.1 zarr==3.1.6 zenml==0.98.0 zeo==6.2
        zigpy-deconz==1.1.0 zigpy-znp==1.1.1 zulip==0.9.1 zulip-bots==0.9.1 zuul==14.3.0
    """),
}
"""Set -> its packages. The standard library belongs to the first set as well."""
STANDARD_LIBRARY = "stdlib"
LATER_PYTHON = "3.14.9"
UNPARSED = "does not parse"
"""The beginning of the message of NZ100 for a file that Python itself cannot parse."""


def folders_of(sets: list[str], into: Path) -> dict[str, Path]:
    """Return the folder of each package in these sets, by the name of the package, downloading what is missing."""
    folders = {STANDARD_LIBRARY: Path(sysconfig.get_path("stdlib"))} if FIRST in sets else {}
    for name in sets:
        folders |= download(SETS[name], into)
    return folders


def download(packages: list[str], into: Path) -> dict[str, Path]:
    """Return the source folder of each package, downloading and unpacking those that are not there yet."""
    sources: dict[str, Path] = {}
    for package in packages:
        source = into / "source" / package.partition("==")[0]
        if not source.is_dir():
            wheels = into / "wheels" / package
            fetch(package, wheels)
            unpack(next(wheels.glob("*.whl")), source)
        sources[source.name] = source
    return sources


def fetch(package: str, wheels: Path) -> None:
    """Download the wheel for this Python, or for a later one if there is none: the code is only read."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    for python in ([], ["--python-version", LATER_PYTHON]):
        if subprocess.run([*pip, *python, "--dest", str(wheels), package], check=False).returncode == 0:
            return
    raise SystemExit(f"there is no wheel of {package}")


def unpack(wheel: Path, source: Path) -> None:
    """Extract the Python files of a wheel. The folder gets its name only when it is complete."""
    partial = source.with_name(source.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(partial, [name for name in archive.namelist() if name.endswith(".py")])
    partial.rename(source)


def check(folder: Path, name: str, with_locals: bool) -> tuple[list[Finding], int, float]:
    """Return all findings below a folder, with paths that begin with `name`, the number of files, and the seconds."""
    began = time.perf_counter()
    files = list(python_files([str(folder)], Config(root=folder)))
    found = [
        Finding(
            f"{name}/{Path(each.path).relative_to(folder).as_posix()}",
            each.line, each.column, each.rule, each.message, each.end_line,
        )
        for of_file in check_files(files, 2, with_locals)
        for each in of_file
    ]  # fmt: skip
    return found, len(files), time.perf_counter() - began


def is_judged(found: Finding) -> bool:
    """Whether a finding can be judged. That Python cannot parse a file cannot."""
    return found.rule != UNREADABLE or UNPARSED not in found.message


def without_copies(findings: list[Finding], folders: dict[str, Path]) -> list[Finding]:
    """Return the findings without those that another package before has with the same rule, file name and line."""
    first_in: dict[tuple[str, str, str], str] = {}
    originals = []
    for found in findings:
        package, _, file = found.path.partition("/")
        lines = (folders[package] / file).read_bytes().splitlines()
        text = lines[found.line - 1].decode("utf-8", "replace").strip() if found.line <= len(lines) else ""
        if first_in.setdefault((found.rule, Path(file).name, text), package) == package:
            originals.append(found)
    return originals


def sample_of(findings: list[Finding], lasting: set[Finding], size: int, seed: int) -> list[dict[str, object]]:
    """Return a random sample, in the form of docs/lint-verdicts.json. `lasting`: the findings without `--locals`."""
    versions = {STANDARD_LIBRARY: platform.python_version()}
    set_of = {STANDARD_LIBRARY: FIRST}
    for name, packages in SETS.items():
        versions |= dict(package.split("==") for package in packages)
        set_of |= dict.fromkeys((package.partition("==")[0] for package in packages), name)
    # Sorted, so that the draw does not depend on the order in which the folders were read.
    population = sorted(each for each in findings if is_judged(each))
    drawn = random.Random(seed).sample(population, min(size, len(population)))
    print(f"drew {len(drawn)} of {len(population)} findings with --seed {seed}")
    return [
        {
            "set": set_of[package],
            "package": package,
            "version": versions[package],
            "file": file,
            "line": found.line,
            "column": found.column,
            "rule": found.rule,
            "local": found not in lasting,
            "verdict": None,
            "reason": "",
        }
        for found in sorted(drawn)
        for package, _, file in [found.path.partition("/")]
    ]


def main() -> int:
    """Download the packages, check them, write the results, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, help="the folder for downloads and results")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="only these sets of packages")
    parser.add_argument("--locals", action="store_true", help="also check maps that end with their call")
    parser.add_argument("--select", help="only these rules, as for `naught lint`")
    parser.add_argument("--draw", nargs="+", choices=SETS, default=list(SETS), help="draw only from these sets")
    parser.add_argument("--sample", type=int, default=0, help="how many findings to draw")
    parser.add_argument("--seed", type=int, default=None, help="the seed of the draw (default: random, printed)")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    folders = folders_of(arguments.sets, arguments.into)
    config = Config().with_arguments(arguments.select, None, None)
    everything: list[Finding] = []
    lasting: set[Finding] = set()
    for name, folder in folders.items():
        found, files, seconds = check(folder, name, arguments.locals)
        found = config.wanted(found)
        everything += found
        lasting.update(check(folder, name, False)[0] if arguments.locals else found)
        print(f"{name:22} {files:6} files {seconds:6.1f} s  {len(found):4} findings", flush=True)
    print(", ".join(f"{rule}: {count}" for rule, count in sorted(Counter(f.rule for f in everything).items())))
    whole = [found.as_json() for found in everything]
    (arguments.into / "findings.json").write_text(json.dumps(whole, indent=1) + "\n")
    if arguments.sample:
        seed = random.SystemRandom().randrange(10_000) if arguments.seed is None else arguments.seed
        wanted = set(folders_of(arguments.draw, arguments.into))
        originals = [each for each in without_copies(everything, folders) if each.path.partition("/")[0] in wanted]
        drawn = sample_of(originals, lasting, arguments.sample, seed)
        (arguments.into / "sample.json").write_text(json.dumps(drawn, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
