# bash completion for clufs(8) and clufsd(8)

_clufs() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} word
    COMPREPLY=()

    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W 'run doctor --help --version' -- "$cur")
        return
    fi
    case $command in
    doctor)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    run) ;;
    *) return ;;
    esac

    # After `--` comes a command line of its own.
    for word in "${COMP_WORDS[@]:2:COMP_CWORD-2}"; do
        if [[ $word == -- ]]; then
            mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")
            return
        fi
    done
    case $prev in
    -m) mapfile -t COMPREPLY < <(compgen -W 'NL CR CW PR PW EX' -- "$cur") ;;
    -t) ;;
    *)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W '-m -n -t --' -- "$cur")
        else
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        ;;
    esac
}

_clufsd() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    case $prev in
    --config)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    *)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W '--state --config --version --help' -- "$cur")
        else
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        fi
        ;;
    esac
}

complete -F _clufs clufs
complete -F _clufsd clufsd
