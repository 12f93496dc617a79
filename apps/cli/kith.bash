# bash completion for kith: the program itself knows its verbs, options and their words.
_kith()
{
    local word IFS=$'\n'
    COMPREPLY=()
    while read -r word; do
        COMPREPLY+=("$word")
    done < <("${COMP_WORDS[0]}" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _kith kith
