# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
#
# Completion of hostel's command line for bash. Commands, options and their values are asked from hostel itself, so
# there is nothing here to be kept up to date.

_hostel_options()
{
    hostel help run 2>/dev/null | sed -n 's/^  \(--[a-z-]*\).*/\1/p'
}

_hostel_commands()
{
    hostel help 2>/dev/null | sed -n 's/^  \([a-z]*\) .*/\1/p'
}

_hostel_names()
{
    hostel "$1" 2>/dev/null | sed 's/ .*//'
}

_hostel_guests()
{
    hostel ps -a -o name 2>/dev/null
}

# Options of the commands about guests.
_hostel_own_options()
{
    hostel help "$1" 2>/dev/null | sed -n 's/^  -[a-zA-Z], /  /; s/^  \(--[-a-z]*\).*/\1/p'
}

# The keys that `hostel set` changes, each with its equals sign.
_hostel_settings()
{
    hostel help set 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1=/p'
}

# From what `hostel info -o json` says: what the guest's devices are called.
_hostel_devices()
{
    sed -n '/^  *"devices": \[/,/^  *\]/s/.*"id": "\([^"]*\)".*/\1/p'
}

# A command about guests: its options, names, and what follows them.
_hostel_guest()
{
    local command="$1" current="$2" previous="$3" named="${COMP_WORDS[2]}"
    case "$previous" in
    -o | --output)
        mapfile -t COMPREPLY < <(compgen -W "table json name" -- "$current")
        return
        ;;
    --progress)
        mapfile -t COMPREPLY < <(compgen -W "bar json none" -- "$current")
        return
        ;;
    -t | --timeout | -d | --delay | -n | --lines | -m | --note | -c | --count | --name)
        [ "$command:$previous" = logs:-c ] || return
        ;;
    esac
    case "$command:$current" in
    *:-*) mapfile -t COMPREPLY < <(compgen -W "$(_hostel_own_options "$command")" -- "$current") ;;
    ps:* | guests:*) ;;
    snapshot:*)
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "create list revert delete merge" -- "$current")
        elif [ "$previous" = "$named" ]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_hostel_guests)" -- "$current")
        elif [ "$named" != create ]; then
            mapfile -t COMPREPLY < <(compgen -W "$(hostel snapshot list -o name "$previous" 2>/dev/null)" -- "$current")
        fi
        ;;
    plug:* | unplug:*)
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_hostel_guests)" -- "$current")
        elif [ "$command" = unplug ]; then
            mapfile -t COMPREPLY < <(compgen -W "$(hostel info -o json "$named" 2>/dev/null | _hostel_devices)" \
                -- "$current")
        fi
        ;;
    save:* | dump:*)
        compopt -o filenames 2>/dev/null
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "$(hostel ps -o name 2>/dev/null)" -- "$current")
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
        fi
        ;;
    restore:*)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -W "$(_hostel_guests)" -- "$current"; compgen -f -- "$current")
        ;;
    set:*)
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_hostel_guests)" -- "$current")
        elif [ "$current" != = ] && [ "$previous" != = ]; then
            compopt -o nospace 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -W "$(_hostel_settings)" -- "$current")
        fi
        ;;
    dump:* | rename:* | console:*)
        [ "$named" != "$current" ] || mapfile -t COMPREPLY < <(compgen -W "$(_hostel_guests)" -- "$current")
        ;;
    pause:* | resume:* | reset:* | shutdown:* | stop:* | kill:* | top:*)
        mapfile -t COMPREPLY < <(compgen -W "$(hostel ps -o name 2>/dev/null)" -- "$current")
        ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$(_hostel_guests)" -- "$current") ;;
    esac
}

# The keys of an option that is a list, each with its equals sign.
_hostel_keys()
{
    hostel help run 2>/dev/null | sed -n "/^  --$1 /,/^  --\\|^\$/s/^      \\([a-z-]*=\\).*/\\1/p"
}

_hostel_formats()
{
    hostel image --help 2>/dev/null | sed -n 's/^Formats: \(.*\)\./\1/p' | tr -d ,
}

# What a key's value is called: FILE, or words with a bar between them.
_hostel_value()
{
    hostel help run 2>/dev/null | sed -n "/^  --$1 /,/^  --\\|^\$/s/^      $2=\\([^ ]*\\) .*/\\1/p"
}

# "file=a,format=raw,re" comes as the words "file", "=", "a,format", "=", "raw,re".
_hostel_list()
{
    local option="$1" current="$2" previous="$3" start="" key="${COMP_WORDS[COMP_CWORD - 2]}" value
    [ "$current" != = ] || key="$previous" current="" previous="="
    if [ "$previous" = = ]; then
        case "$current" in
        *,*) start="${current%,*}," current="${current##*,}" ;;
        *)
            value="$(_hostel_value "$option" "${key##*,}")"
            if [ "$value" = FILE ]; then
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
            elif [ "$value" = FORMAT ]; then
                mapfile -t COMPREPLY < <(compgen -W "$(_hostel_formats)" -- "$current")
            elif [ "$value" != "${value%|*}" ]; then
                compopt -o nospace 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -W "${value//|/ }" -- "$current")
            fi
            return
            ;;
        esac
    fi
    compopt -o nospace 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -P "$start" -W "$(_hostel_keys "$option")" -- "$current")
}

# The last piece of --net: its first word, then keys; their values are not known here.
_hostel_net()
{
    local current="$1" previous="$2"
    case "$current" in
    *,*)
        compopt -o nospace 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -P "${current%,*}," -W "$(_hostel_keys net)" -- "${current##*,}")
        ;;
    *) [ "$previous" != --net ] || mapfile -t COMPREPLY < <(compgen -W "user tap none" -- "$current") ;;
    esac
}

_hostel_image_options()
{
    hostel image "$1" --help 2>/dev/null | sed -n 's/^  -[a-zA-Z], /  /; s/^  \(-[-a-zA-Z]*\).*/\1/p'
}

# What the argument of an option is called: FORMAT, FILE, or other.
_hostel_image_argument()
{
    hostel image "$1" --help 2>/dev/null | sed -n "s/^  \(-[a-zA-Z], \)\{0,1\}$2 \([A-Z]*\) .*/\2/p; \
        s/^  $2, --[a-z-]* \([A-Z]*\) .*/\1/p"
}

_hostel_image()
{
    local current="$1" previous="$2" command="${COMP_WORDS[2]}"
    if [ "$COMP_CWORD" -eq 2 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(hostel image --help 2>/dev/null | sed -n 's/^  \([a-z]*\) .*/\1/p')" \
            -- "$current")
        return
    fi
    case "$previous" in
    -?*)
        case "$(_hostel_image_argument "$command" "$previous")" in
        FORMAT)
            mapfile -t COMPREPLY < <(compgen -W "$(_hostel_formats)" -- "$current")
            return
            ;;
        FORM)
            local forms="human json"
            [ "$previous" != --progress ] || forms="bar json none"
            mapfile -t COMPREPLY < <(compgen -W "$forms" -- "$current")
            return
            ;;
        WHAT)
            mapfile -t COMPREPLY < <(compgen -W "leaks all" -- "$current")
            return
            ;;
        FILE | DIR | PATH | "") ;;
        *) return ;;
        esac
        ;;
    esac
    if [ "${current#-}" != "$current" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_hostel_image_options "$command")" -- "$current")
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}

_hostel()
{
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD - 1]}"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ] || [ "${COMP_WORDS[1]}" = help ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_hostel_commands)" -- "$current")
        return
    fi
    if [ "${COMP_WORDS[1]}" = image ]; then
        _hostel_image "$current" "$previous"
        return
    fi
    case "${COMP_WORDS[1]}" in
    run) ;;
    plug) # behind --disk and --net as behind those of run
        if [[ " ${COMP_WORDS[*]:2:COMP_CWORD-2} " != *\ --@(disk|net)\ * ]]; then
            _hostel_guest plug "$current" "$previous"
            return
        fi
        ;;
    ps | info | top | start | pause | resume | reset | shutdown | stop | kill | save | restore | snapshot | clone | \
        unplug | wait | dump | console | logs | rename | set | rm | guests | remove)
        _hostel_guest "${COMP_WORDS[1]}" "$current" "$previous"
        return
        ;;
    *) return 0 ;;
    esac
    local i=$((COMP_CWORD - 1))
    while [ "$i" -gt 1 ] && [[ "${COMP_WORDS[i]}" != --* ]]; do i=$((i - 1)); done
    case "${COMP_WORDS[i]}" in
    --net)
        if [ "$((COMP_CWORD - i))" -eq 1 ] || [ "$previous" = = ] || [ "$previous" = : ]; then
            _hostel_net "$current" "$previous"
            return
        fi
        ;;
    --channel | --disk | --flash | --fw-cfg)
        if [ "$((COMP_CWORD - i))" -eq 1 ] || [ "$current" = = ] || [ "$previous" = = ]; then
            _hostel_list "${COMP_WORDS[i]#--}" "$current" "$previous"
            return
        fi
        ;;
    esac
    case "$previous" in
    --isa) mapfile -t COMPREPLY < <(compgen -W "$(_hostel_names isas)" -- "$current") ;;
    --board) mapfile -t COMPREPLY < <(compgen -W "$(_hostel_names boards)" -- "$current") ;;
    --method) mapfile -t COMPREPLY < <(compgen -W "$(_hostel_names methods)" -- "$current") ;;
    --console-via) mapfile -t COMPREPLY < <(compgen -W "uart virtio" -- "$current") ;;
    --watchdog | --panic) mapfile -t COMPREPLY < <(compgen -W "reset pause poweroff dump none" -- "$current") ;;
    --balloon | --rng | --power-button) mapfile -t COMPREPLY < <(compgen -W "on off" -- "$current") ;;
    --console) mapfile -t COMPREPLY < <(compgen -W "stdio none file=" -- "$current") ;;
    --trace)
        mapfile -t COMPREPLY < <(compgen -W "all $(hostel help run 2>/dev/null | sed -n 's/^Areas for --trace: //p')" \
            -- "$current")
        ;;
    --kernel | --initrd | --firmware | --dump-file | --password-file | --ssh-key | --user-data)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        ;;
    --name) mapfile -t COMPREPLY < <(compgen -W "$(_hostel_guests)" -- "$current") ;;
    --cpus | --hotplug | --cpu-features | --memory | --append | --trace-at) ;;
    --size | --hostname | --user | --password | --package) ;;
    run) mapfile -t COMPREPLY < <(compgen -W "debian $(_hostel_options)" -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$(_hostel_options)" -- "$current") ;;
    esac
}

complete -F _hostel hostel
