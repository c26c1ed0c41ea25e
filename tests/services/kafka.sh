#!/usr/bin/env bash
# A real Apache Kafka (KRaft) from Maven Central, for tests. Loopback only.
#   kafka.sh start | stop | status       all nodes; start may be repeated
#   kafka.sh reset                       stops and deletes the data; what was downloaded stays
#   kafka.sh kill N | up N               kill -9 of one node | start it again and wait until it serves
#   kafka.sh pause N | resume N          SIGSTOP | SIGCONT
#   kafka.sh topic NAME [PARTITIONS]     makes a topic, empty even if it was there
#   kafka.sh tool CLASS ARGS...          a Kafka command-line class, e.g. org.apache.kafka.tools.TopicCommand
# Settings (environment): KAFKA_NODES (1) KAFKA_PORT (19092) KAFKA_HEAP (512m) KAFKA_EXTRA (lines for
# server.properties) KAFKA_JVM (options) KAFKA_VERSION, JAVA_HOME. start keeps nodes and extra lines for the other commands.
# Node i listens at p = KAFKA_PORT + 10 (i - 1): p plaintext; p+1 TLS, client certificate required;
# p+2 SASL over TLS (SCRAM-SHA-256, SCRAM-SHA-512, PLAIN; user app, password app-secret); p+3 controller.
source "$(dirname "$0")/common.sh"

VERSION=${KAFKA_VERSION:-4.3.1}
PORT=${KAFKA_PORT:-19092}
HEAP=${KAFKA_HEAP:-512m}
DIR=$SERVICES/kafka
LIBS=$DIR/libs-$VERSION
TLS=$DIR/tls
NODES=${KAFKA_NODES:-$(cat "$DIR/nodes" 2>/dev/null || echo 1)}
JAVA=${JAVA_HOME:+$JAVA_HOME/bin/}java
LOG4J=$HERE/log4j2.properties
CLUSTER_ID=4L6g3nShT-eMCtK--X86sw
READY_SECONDS=90
STOP_SECONDS=20

port() { echo $((PORT + 10 * ($1 - 1))); }
# The pid of node $1 if it runs. The command line is compared, since a pid may be in use by another program by now.
pid_of() {
  local pid
  pid=$(cat "$DIR/node$1/pid" 2>/dev/null) || return 1
  grep -qzxF "$DIR/node$1/server.properties" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}
# java expands LIBS/* in the folder's own order; sorted, the path is the same each time, as the class archive demands.
classpath() { printf '%s:' "$LIBS"/*.jar | sed 's/:$//'; }
# The first compiler alone and the simple collector start a short-lived JVM about twice as fast.
tool() {
  # shellcheck disable=SC2086 # several options in one variable
  "$JAVA" -Xmx"${TOOL_HEAP:-256m}" ${TOOL_JVM:--XX:TieredStopAtLevel=1 -XX:+UseSerialGC} \
    -Dlog4j2.configurationFile="$LOG4J" -cp "$(classpath)" "$@"
}

# The jars, moved into place only when complete.
fetch() {
  if [ -d "$LIBS" ]; then return; fi
  need mvn
  local work=$DIR/fetch.$$ log=$DIR/fetch.log
  mkdir -p "$work"
  sed "s/@KAFKA_VERSION@/$VERSION/" "$HERE/kafka-pom.xml" >"$work/pom.xml"
  # -U: Maven remembers a failed look-up and would not ask again.
  local get=(mvn -B -q -ntp -U -f "$work/pom.xml" -Dmaven.artifact.threads=10 -DincludeScope=runtime
    -DoutputDirectory="$work/libs" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies)
  "${get[@]}" </dev/null >"$log" 2>&1 || { sleep 5; "${get[@]}" </dev/null >"$log" 2>&1; } ||
    { tail -n 20 "$log" >&2; rm -rf "$work"; die "Maven could not fetch Kafka $VERSION"; }
  mv "$work/libs" "$LIBS"
  rm -rf "$work"
}

# Key stores and client property files in the shape that Kafka's own tools want.
client_files() {
  if [ -f "$TLS/files.done" ]; then return; fi
  local who mechanism class
  for who in server client; do cat "$TLS/$who.key" "$TLS/$who.pem" >"$TLS/$who-both.pem"; done
  local trust="ssl.truststore.type=PEM"$'\n'"ssl.truststore.location=$TLS/ca.pem"
  printf '%s\n' security.protocol=SSL "$trust" ssl.keystore.type=PEM \
    "ssl.keystore.location=$TLS/client-both.pem" >"$TLS/ssl.properties"
  for mechanism in SCRAM-SHA-256 PLAIN; do
    class=scram.ScramLoginModule
    if [ $mechanism = PLAIN ]; then class=plain.PlainLoginModule; fi
    printf '%s\n' security.protocol=SASL_SSL "$trust" "sasl.mechanism=$mechanism" \
      "sasl.jaas.config=org.apache.kafka.common.security.$class required username=\"app\" password=\"app-secret\";" \
      >"$TLS/${mechanism%%-*}.properties"
  done
  touch "$TLS/files.done"
}

# The settings of node $1, written at every start; its storage is formatted once.
configure() {
  local node=$DIR/node$1 p i voters="" host=127.0.0.1 module=org.apache.kafka.common.security
  p=$(port "$1")
  mkdir -p "$node"
  for i in $(seq "$NODES"); do voters+="$i@$host:$(($(port "$i") + 3)),"; done
  local replicas=$((NODES < 3 ? NODES : 3))
  local in_sync=$((replicas > 2 ? 2 : 1))
  cat >"$node/server.properties" <<END
process.roles=broker,controller
node.id=$1
controller.quorum.voters=${voters%,}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://$host:$p,SSL://$host:$((p + 1)),SASL_SSL://$host:$((p + 2)),CONTROLLER://$host:$((p + 3))
advertised.listeners=PLAINTEXT://$host:$p,SSL://$host:$((p + 1)),SASL_SSL://$host:$((p + 2))
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
log.dirs=$node/data
ssl.keystore.type=PEM
ssl.keystore.location=$TLS/server-both.pem
ssl.truststore.type=PEM
ssl.truststore.location=$TLS/ca.pem
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=$module.plain.PlainLoginModule required user_app="app-secret";
offsets.topic.replication.factor=$replicas
transaction.state.log.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
default.replication.factor=$replicas
min.insync.replicas=$in_sync
transaction.state.log.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
# A broker that was killed is let back in when its old session has ended: 9 s by default.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
# The default buffer does not fit a small heap.
log.cleaner.dedupe.buffer.size=16777216
${KAFKA_EXTRA:-}
END
  if [ -f "$node/data/meta.properties" ]; then return; fi
  tool kafka.tools.StorageTool format -t $CLUSTER_ID -c "$node/server.properties" \
    --add-scram 'SCRAM-SHA-256=[name=app,password=app-secret]' \
    --add-scram 'SCRAM-SHA-512=[name=app,password=app-secret]' >"$node/format.log" 2>&1 ||
    { cat "$node/format.log" >&2; die "the storage of node $1 could not be formatted"; }
}

# A JVM with its classes in an archive starts in half the time. The archive is written by a clean stop and takes its name
# only when that was complete; a JVM that it does not fit (another version, other jars) goes on without it.
ARCHIVE=$LIBS/classes.jsa
archive_option() {
  if [ -f "$ARCHIVE" ]; then echo "-XX:SharedArchiveFile=$ARCHIVE"
  elif [ "$1" = 1 ]; then echo "-XX:ArchiveClassesAtExit=$ARCHIVE.new"; fi
}

# Starts node $1 without waiting for it.
launch() {
  if pid_of "$1" >/dev/null; then return; fi
  local node=$DIR/node$1 offset
  [ -f "$node/server.properties" ] || die "node $1 was never started: kafka.sh start comes first"
  for offset in 0 1 2 3; do port_is_free $(($(port "$1") + offset)) KAFKA_PORT; done
  if [ -f "$node/log" ]; then mv "$node/log" "$node/log.old"; fi
  # shellcheck disable=SC2046,SC2086 # no word or several options in one place
  setsid "$JAVA" -Xms"$HEAP" -Xmx"$HEAP" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError $(archive_option "$1") ${KAFKA_JVM:-} \
    -Dlevel=INFO -Dlog4j2.configurationFile="$LOG4J" -cp "$(classpath)" kafka.Kafka "$node/server.properties" \
    </dev/null >"$node/log" 2>&1 &
  echo $! >"$node/pid"
}
await_ready() {
  local log=$DIR/node$1/log
  for _ in $(seq $((READY_SECONDS * 10))); do
    if grep -q 'Kafka Server started' "$log" 2>/dev/null; then return; fi
    # Between fork and exec the command line is not java's yet: look twice before calling it dead.
    pid_of "$1" >/dev/null || { sleep 1; pid_of "$1" >/dev/null; } || { tail -n 20 "$log" >&2; die "node $1 died"; }
    sleep 0.1
  done
  die "node $1 was not ready after $READY_SECONDS s; see $log"
}
# Stops node $1: TERM, then KILL; or KILL at once.
halt() {
  local pid
  pid=$(pid_of "$1") || return 0
  kill "-$2" "$pid"
  kill -CONT "$pid" # a paused one would not hear a TERM
  for _ in $(seq $((STOP_SECONDS * 10))); do
    if ! pid_of "$1" >/dev/null; then
      rm -f "$DIR/node$1/pid"
      if [ "$2" = TERM ] && [ -f "$ARCHIVE.new" ]; then mv "$ARCHIVE.new" "$ARCHIVE"; fi
      return
    fi
    sleep 0.1
  done
  kill -KILL "$pid"
  rm -f "$DIR/node$1/pid" "$ARCHIVE.new"
}
# The numbers of all nodes that were ever started here.
known() { find "$DIR" -maxdepth 1 -name 'node[0-9]*' -printf '%f\n' 2>/dev/null | sed 's/node//' | sort -n; }

start() {
  local i jobs=() had
  need "$JAVA"
  mkdir -p "$DIR"
  had=$(known | wc -l)
  [ "$had" = 0 ] || [ "$had" = "$NODES" ] || die "the data here is that of $had nodes: kafka.sh reset comes first"
  echo "$NODES" >"$DIR/nodes"
  fetch
  certificates "$TLS" client
  client_files
  for i in $(seq "$NODES"); do (if ! pid_of "$i" >/dev/null; then configure "$i"; launch "$i"; fi) & jobs+=($!); done
  for i in "${jobs[@]}"; do wait "$i" || exit 1; done
  for i in $(seq "$NODES"); do await_ready "$i"; done
  for i in $(seq "$NODES"); do echo "kafka node $i: pid $(pid_of "$i"), at 127.0.0.1:$(port "$i")"; done
}
status() {
  local i pid code=0
  for i in $(seq "$NODES"); do
    if pid=$(pid_of "$i"); then echo "kafka node $i: up, pid $pid, $(rss_mib "$pid") MiB, at 127.0.0.1:$(port "$i")"
    else echo "kafka node $i: down"; code=3; fi
  done
  exit $code
}
signal() {
  local pid
  pid=$(pid_of "$2") || die "node $2 does not run"
  kill "-$1" "$pid"
}
topic() {
  local tool=(tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$PORT")
  "${tool[@]}" --delete --if-exists --topic "$1"
  # A deletion is done in the background; until then the name is taken.
  for _ in $(seq 20); do
    if "${tool[@]}" --create --topic "$1" --partitions "${2:-4}" >"$DIR/topic.log" 2>&1; then return; fi
    sleep 0.5
  done
  cat "$DIR/topic.log" >&2
  die "topic $1 could not be made"
}

case "${1:-}" in
  start)  start ;;
  stop)   for i in $(known); do halt "$i" TERM & done; wait ;;
  reset)  for i in $(known); do halt "$i" KILL; done; rm -rf "$DIR"/node[0-9]* "$DIR/nodes" "$ARCHIVE.new" ;;
  status) status ;;
  kill)   halt "${2:-1}" KILL ;;
  up)     launch "${2:-1}"; await_ready "${2:-1}" ;;
  pause)  signal STOP "${2:-1}" ;;
  resume) signal CONT "${2:-1}" ;;
  topic)  [ $# -ge 2 ] || usage; topic "$2" "${3:-4}" ;;
  tool)   shift; tool "$@" ;;
  *)      usage ;;
esac
