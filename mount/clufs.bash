# bash completion for clufs(8) and clufsd(8)

_clufs() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} word
    COMPREPLY=()

    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W 'run doctor keygen drain what-if import-ase top lun lab --help --version' -- "$cur")
        return
    fi
    case $command in
    doctor)
        if [[ $prev == --config ]]; then
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        elif [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W '--config' -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        fi
        return
        ;;
    keygen)
        if [[ $prev == --dir ]]; then
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        elif [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W '--dir' -- "$cur")
        fi
        return
        ;;
    drain)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W '--off -n -q --help' -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -W "$(_clufs_members)" -- "$cur")
        fi
        return
        ;;
    what-if)
        word=lost
        ((COMP_CWORD > 2)) && word=$(_clufs_members)
        mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
        return
        ;;
    import-ase)
        if [[ $prev == --dir ]]; then
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        elif [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W '--dir --force' -- "$cur")
        else
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        return
        ;;
    top)
        mapfile -t COMPREPLY < <(compgen -W '-b -d -n' -- "$cur")
        return
        ;;
    lun)
        if ((COMP_CWORD == 2)); then
            mapfile -t COMPREPLY < <(compgen -W 'format show' -- "$cur")
        elif [[ $cur == -* && ${COMP_WORDS[2]} == format ]]; then
            word='--cluster --members --io-timeout --watchdog --force'
            mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
        else
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        return
        ;;
    lab)
        _clufs_lab
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

_clufs_members() {
    local path
    for path in "${CLU_ROOT:-/clu}"/members/*/; do
        path=${path%/}
        [[ -d $path ]] && printf '%s\n' "${path##*/}"
    done
}

_clufs_lab() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local action=${COMP_WORDS[2]} dir=${CLUFS_LAB:-/run/clufs-lab} at words
    if ((COMP_CWORD == 2)); then
        words='up exec shell kill pause resume restart cut heal lun status down tour'
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        return
    fi
    for ((at = 3; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
        --)
            mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")
            return
            ;;
        --dir) dir=${COMP_WORDS[at + 1]} ;;
        esac
    done
    case $prev in
    --dir)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --what)
        mapfile -t COMPREPLY < <(compgen -W 'clufsd corosync member' -- "$cur")
        return
        ;;
    --engine)
        mapfile -t COMPREPLY < <(compgen -W 'corosync' -- "$cur")
        return
        ;;
    --fence-by)
        mapfile -t COMPREPLY < <(compgen -W 'keeper luns' -- "$cur")
        return
        ;;
    --members | --luns | --own-luns | --array | --seconds) return ;;
    --path)
        mapfile -t COMPREPLY < <(compgen -W '1 2' -- "$cur")
        return
        ;;
    esac
    case $action in
    tour) words='--fast --dir' ;;
    up) words='--members --luns --own-luns --array --fence-by --quorum-disk --trust-supervisor --engine --dir' ;;
    lun) words='--member --path --seconds --dir' ;;
    kill | pause | resume | restart) words='--what --dir' ;;
    *) words='--dir' ;;
    esac
    if [[ $cur != -* ]]; then
        # A member has a directory with its configuration in it.
        words=
        case $action in
        up | heal | status | down | tour) ;;
        lun) words='offline online slow restart status' ;;
        *) for at in "$dir"/*/clufs.toml; do [[ -e $at ]] && words+=" $(basename "$(dirname "$at")")"; done ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
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
