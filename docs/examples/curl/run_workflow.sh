#!/usr/bin/env bash
# Run a ComfyUI workflow with curl and jq, and save what it makes.
#
#   export COMFYFLEET_SERVER=http://127.0.0.1:8080 COMFYFLEET_KEY=cfk_...
#   ./run_workflow.sh workflow.json 107.png=photo.png
#
# The files are sent as a form, so nothing need be turned into base64. Ends with 0 when the job completed.
set -euo pipefail

server=${COMFYFLEET_SERVER:-http://127.0.0.1:8080}
key=${COMFYFLEET_KEY:?set COMFYFLEET_KEY}
out=${OUT:-outputs}

api() {
	# --retry waits as Retry-After says when the rate limit or a restart of the server answers 429 or 503.
	curl --silent --show-error --fail-with-body --retry 8 --retry-connrefused \
		--header "Authorization: Bearer $key" "$@"
}

[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 64; }
form=(--form "workflow=<$1")
shift
for item in "$@"; do
	form+=(--form "media=@${item#*=};filename=${item%%=*}")
done
[ -z "${INPUTS:-}" ] || form+=(--form-string "inputs=$INPUTS") # e.g. [{"node":"16","field":"positive_prompt","value":"waves"}]

answer=$(api --header "Idempotency-Key: $(date +%s)-$$-$RANDOM" "${form[@]}" "$server/v1/jobs") || {
	jq -r '.detail, (.errors[]? | "  \(.field): \(.detail)")' <<<"$answer" >&2
	exit 2
}
job=$(jq -r .job_id <<<"$answer")
echo "job $job" >&2

while :; do
	status=$(api "$server/v1/jobs/$job?data=none")
	jq -r '"\(.status) \(.progress)%  nodes \(.nodes_done)/\(.nodes_total)  at \(.current_node // "-")"' <<<"$status" >&2
	case $(jq -r .status <<<"$status") in
	completed) break ;;
	failed)
		jq -r '"failed: \(.error)", .error_log_tail[-10:][]' <<<"$status" >&2
		exit 1
		;;
	esac
	sleep 2
done

mkdir -p "$out"
jq -r '.outputs[] | "\(.url)\t\(.filename)"' <<<"$status" | while IFS=$'\t' read -r url name; do
	case $url in /*) url=$server$url ;; esac
	curl --silent --show-error --fail --retry 3 --output "$out/${job}_$(basename "$name").part" "$url"
	mv "$out/${job}_$(basename "$name").part" "$out/${job}_$(basename "$name")"
	echo "$out/${job}_$(basename "$name")"
done
