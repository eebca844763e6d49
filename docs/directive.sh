# shellcheck shell=sh

# directive STATE [MESSAGE [MEMBERS]] prints a directive as one line of JSON:
#
#	directive failed "$text" '"exit_code":7' >&"$PIKA_LIFECYCLE_FD"
#
# It runs in a subshell, so a SIGPIPE does not end the script.
directive() (
	printf '{"state":"%s","message":%s%s}\n' "$1" "$(json "${2-$1}")" "${3+,$3}"
)

# json TEXT prints TEXT as a JSON string.
json() (
	LC_ALL=C # one byte is one character
	text=$1 json=
	while plain=${text%%["\"\\"[:cntrl:]]*} && [ "$plain" != "$text" ]; do
		text=${text#"$plain"}
		byte=${text%%"${text#?}"} text=${text#?}
		code=${json_codes#*"$byte"} # starts with the code of byte
		json=$json$plain\\u00${code%%"${code#??}"}
	done
	printf '"%s"' "$json$text"
)

# The bytes that need an escape, each with its hexadecimal code.
json_codes=$(printf '"22\\5c\1777f\00101\00202\00303\00404\00505\00606\00707\01008\01109\0120a\0130b\0140c\0150d\0160e\0170f'
	printf '\02010\02111\02212\02313\02414\02515\02616\02717\03018\03119\0321a\0331b\0341c\0351d\0361e\0371f')
