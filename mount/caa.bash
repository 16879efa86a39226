# bash completion for the caa_ programs

# Resources that have that file, or all that have a profile.
_caa_names() {
    local root=${CLU_ROOT:-/clu} path
    for path in "$root"/resources/*"$1"; do
        [[ -e $path ]] || continue
        path=${path%"$1"}
        printf '%s\n' "${path##*/}"
    done
}

_caa_members() {
    local path
    for path in "${CLU_ROOT:-/clu}"/members/*/; do
        path=${path%/}
        [[ -d $path && ${path##*/} != self ]] && printf '%s\n' "${path##*/}"
    done
}

_caa() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local program=${COMP_WORDS[0]##*/} options words
    COMPREPLY=()
    case $program in
    caa_start) options='-c -f -n -all -q' ;;
    caa_stop) options='-c -f -n -all -q' ;;
    caa_relocate) options='-s -c -f -n -q' ;;
    caa_balance) options='-all -s -n -q' ;;
    caa_register) options='-u -q' ;;
    caa_unregister) options='-q' ;;
    caa_stat) options='-a -c -f -g -l -p -q -r -t -v' ;;
    caa_report) options='-a -b -e -h -o -s' ;;
    caa_profile)
        options='-create -template -update -delete -print -validate -t -a -B -d -p -h -r -l -s -n -o -I -O -f -q'
        ;;
    esac
    case $program$prev in
    caa_profile-t) words='application network tape changer' ;;
    caa_profile-p) words='balanced favored restricted' ;;
    caa_profile-h) words=$(_caa_members) ;;
    caa_profile-[rl]) words=$(_caa_names /profile) ;;
    caa_profile-[BIOan])
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    caa_profile-[dos] | caa_profile-create | caa_report-[be]) return ;;
    caa_report-s) words= ;;
    *-[cs]) words=$(_caa_members) ;;
    *)
        if [[ $cur == -* ]]; then
            words="$options --help"
        elif [[ $program == caa_profile || $program == caa_register ]]; then
            words=$(_caa_names .cap)
        elif [[ $program != caa_report || $prev == -a ]]; then
            words=$(_caa_names /profile)
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _caa caa_start caa_stop caa_relocate caa_balance caa_register caa_unregister
complete -F _caa caa_stat caa_report caa_profile
